"""Probes: one module for each wall, each a list of findings from trying things for real.

What could change the caller is tried in a short-lived child (``child``).
"""

from __future__ import annotations

from cloche.kernel.features import Features, Finding, detect


def run() -> list[Finding]:
    """Run every probe, wall by wall."""
    from cloche.kernel.probes import cgroups, namespaces, privileges, process, root

    features: Features = detect()
    findings: list[Finding] = []
    for wall in (root, namespaces, cgroups, privileges, process):
        findings += wall.probe(features)
    return findings
