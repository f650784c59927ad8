"""What the listener of a system call filter is told: the container process state.

Source: OCI runtime-spec, ``config-linux.md`` "The Container Process State".
"""

from __future__ import annotations

from cloche.plan import hooks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.oci.spec import Spec

FD_NAME = "seccompFd"


def state(spec: Spec, id: str, bundle: str, first_pid: int) -> tuple[bytes, bytes, bytes]:
    """Return the JSON before, between and after the pids, which are known to the launcher only.

    ``first_pid`` is the container's first process where another one is added to it, else 0.
    """
    from cloche import json

    document: dict[str, object] = {"ociVersion": spec["ociVersion"], "fds": [FD_NAME]}
    metadata = spec.get("linux", {}).get("seccomp", {}).get("listenerMetadata")
    if metadata:
        document["metadata"] = metadata
    status = "running" if first_pid else "creating"
    container = json.dumps(hooks.state(spec, id, bundle, status, first_pid)).encode()
    head = json.dumps(document).encode()[:-1] + b', "state": '
    if first_pid:
        return head + container + b', "pid": ', b"}", b""
    return head + container[:-1] + b', "pid": ', b'}, "pid": ', b"}"
