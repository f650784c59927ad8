"""Hooks that no launcher runs: those of the commands ``start`` and ``delete``."""

from __future__ import annotations

from cloche.errors import Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cloche.oci.spec import Hook
    from cloche.runtime.container import Container


def run(
    container: Container,
    moment: str,
    status: str,
    warn: Callable[[str], None] | None = None,
) -> None:
    """Run the hooks of a moment, in order, outside the container.

    Raises Unavailable when one fails or doesn't end in time; with ``warn`` that is told so, and
    the next one is run.
    """
    spec = container.spec()
    moments: dict[str, Any] = {**spec.get("hooks", {})}
    wanted: list[Hook] = moments.get(moment, [])
    if not wanted:
        return
    from cloche.plan.hooks import state

    process = container.process()
    pid = process.pid if process and status != "stopped" else 0
    bundle = container.state()["bundle"]
    document = state(spec, container.id, bundle, status, pid)
    for hook in wanted:
        try:
            _run(hook, document, bundle, moment)
        except Unavailable as error:
            if warn is None:
                raise
            warn(error.message)


def _run(hook: Hook, document: dict[str, object], bundle: str, moment: str) -> None:
    import subprocess

    from cloche import json

    path = hook["path"]
    env = dict(entry.split("=", 1) for entry in hook.get("env", []) if "=" in entry)
    try:
        done = subprocess.run(
            hook.get("args", []) or [path],
            executable=path,
            input=json.dumps(document).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=bundle,
            timeout=hook.get("timeout") or None,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{moment} hook {path}: it didn't end in {error.timeout:g} s") from error
    except OSError as error:
        raise Unavailable(f"{moment} hook {path}: {(error.strerror or '').lower()}") from error
    if done.returncode:
        said = done.stdout.decode(errors="replace").strip()
        how = (
            f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        )
        raise Unavailable(f"{moment} hook {path}: {how}{': ' if said else ''}{said}")
