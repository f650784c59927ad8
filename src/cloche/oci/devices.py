"""The devices that every container may use, whatever its spec says.

Source: OCI runtime-spec, ``config-linux.md`` "Default Devices"; that ``/dev/net/tun`` isn't among
them and nodes of any kind may be made (``m``) is as other runtimes have it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.oci.spec import DeviceRule

_DENY_ALL: DeviceRule = {"allow": False, "access": "rwm"}
_USED = ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2))
"""Major and minor of null, zero, full, random, urandom, tty, console and ptmx."""


def with_default_rules(rules: list[DeviceRule]) -> list[DeviceRule]:
    """Return a spec's device rules with the usual ones; without any, nothing else is allowed."""
    meant = list(rules) or [_DENY_ALL]
    meant.append({"allow": True, "type": "c", "access": "m"})
    meant.append({"allow": True, "type": "b", "access": "m"})
    for major, minor in _USED:
        meant.append({"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"})
    meant.append({"allow": True, "type": "c", "major": 136, "access": "rwm"})  # pseudo-terminals
    return meant
