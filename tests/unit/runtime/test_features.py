"""The features document: of the specification's form, and true."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cloche.kernel import flags
from cloche.oci import fields
from cloche.oci.validate import validate
from cloche.runtime.commands.features import document
from cloche.runtime.main import COMMANDS, SPEC_VERSION, main

# Source: OCI runtime-spec 1.3, features.md and features-linux.md.
FORM: dict[str, Any] = {
    "ociVersionMin": str,
    "ociVersionMax": str,
    "hooks": [str],
    "mountOptions": [str],
    "linux": {
        "namespaces": [str],
        "capabilities": [str],
        "cgroup": dict.fromkeys(("v1", "v2", "systemd", "systemdUser", "rdma"), bool),
        "seccomp": {
            "enabled": bool,
            "actions": [str],
            "operators": [str],
            "archs": [str],
            "knownFlags": [str],
            "supportedFlags": [str],
        },
        "apparmor": {"enabled": bool},
        "selinux": {"enabled": bool},
        "memoryPolicy": {"modes": [str], "flags": [str]},
        "intelRdt": dict.fromkeys(("enabled", "schemata", "monitoring"), bool),
        "mountExtensions": {"idmap": {"enabled": bool}},
        "netDevices": {"enabled": bool},
    },
    "annotations": dict.fromkeys(
        (
            "cloche.version",
            "io.github.seccomp.libseccomp.version",
            "org.opencontainers.runc.checkpoint.enabled",
        ),
        str,
    ),
    "potentiallyUnsafeConfigAnnotations": [str],
}


@pytest.fixture(scope="module")
def features() -> dict[str, Any]:
    """The document."""
    return document()


def _check(value: object, form: Any, place: str) -> None:
    if isinstance(form, dict):
        assert isinstance(value, dict), place
        assert value.keys() == form.keys(), place
        for name, member in value.items():
            _check(member, form[name], f"{place}/{name}")
    elif isinstance(form, list):
        assert isinstance(value, list), place
        assert len(set(value)) == len(value), place
        for item in value:
            _check(item, form[0], place)
    else:
        assert type(value) is form, place


def test_form(features: dict[str, Any]) -> None:
    """Every property of the specification is there, of its type, and no other."""
    _check(features, FORM, "")


def test_names_are_the_specifications(features: dict[str, Any]) -> None:
    """Nothing is listed that a config.json can't say."""
    linux, seccomp = features["linux"], features["linux"]["seccomp"]
    assert set(features["hooks"]) == fields.Hooks.fields.keys()
    assert set(features["mountOptions"]) <= flags.MOUNT_OPTIONS.keys()
    assert set(linux["namespaces"]) <= set(fields.NamespaceType.words)
    assert set(seccomp["actions"]) <= set(fields.SeccompAction.words)
    assert set(seccomp["operators"]) == set(fields.SeccompOperator.words)
    assert set(seccomp["archs"]) <= set(fields.SeccompArch.words)
    assert set(seccomp["supportedFlags"]) <= set(seccomp["knownFlags"])
    assert set(seccomp["knownFlags"]) == set(fields.SeccompFlag.words)


def test_what_every_engine_counts_on(features: dict[str, Any]) -> None:
    """What no runtime can do without is found to be there."""
    assert {"bind", "rbind", "ro", "rprivate", "rro", "remount"} <= set(features["mountOptions"])
    linux = features["linux"]
    kinds = {"mount", "pid", "network", "ipc", "uts", "user", "cgroup", "time"}
    assert set(linux["namespaces"]) == kinds
    assert set(linux["seccomp"]["actions"]) == set(fields.SeccompAction.words)
    assert set(features["mountOptions"]) == flags.MOUNT_OPTIONS.keys()
    for field in ("apparmor", "selinux", "intelRdt", "netDevices"):
        assert linux[field]["enabled"], field
    assert linux["intelRdt"]["schemata"]
    assert linux["intelRdt"]["monitoring"]
    assert linux["mountExtensions"]["idmap"]["enabled"]
    assert linux["memoryPolicy"]["modes"]
    assert linux["memoryPolicy"]["flags"]
    assert all(linux["cgroup"].values())
    assert {"x86_64", "aarch64"} <= {
        name.removeprefix("SCMP_ARCH_").lower() for name in features["linux"]["seccomp"]["archs"]
    }


@pytest.mark.parametrize("end", ["ociVersionMin", "ociVersionMax"])
def test_versions_are_taken(features: dict[str, Any], end: str) -> None:
    """A config.json of the oldest and of the newest version is valid."""
    assert validate({"ociVersion": features[end], "root": {"path": "rootfs"}})
    assert features["ociVersionMax"] == SPEC_VERSION


def test_command(capsys: pytest.CaptureFixture[str], features: dict[str, Any]) -> None:
    """The command prints it as JSON."""
    assert "features" in COMMANDS
    assert main(["features"]) == 0
    assert json.loads(capsys.readouterr().out) == features
