"""System call filters: from a profile to the program that the kernel runs (seccomp(2)).

::

    profile (linux.seccomp of a config.json)
       |  checked by profile.py, whatever it came from
       v
    rules by system call name --libseccomp, compiler.py--> classic BPF for each architecture
       |  fallback.py puts in front: a system call newer than the profile gets ENOSYS
       v
    array of struct sock_filter --cache.py--> a file, so that all this is done once

Compiling takes some 20 ms, a start of a container has no such time to spare.  Hence the
cache, and hence this module loads none of the others before it needs them.
"""

from __future__ import annotations

import os

from cloche.kernel.seccomp import cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

VERSION = 1
"""Part of each cached file's name: to be raised whenever the default profile's data or the
compiler changes what comes out for the same input."""

_NOT_COMPILED = ("flags", "listenerPath", "listenerMetadata")


def default_program(capabilities: int, cache_dir: str) -> bytes:
    """Return the compiled default profile for a container with these capabilities (a mask).

    The fast path of starting a container: one small file is read.  The bytes are an array of
    ``struct sock_filter``, native byte order.  Raises MissingDependency when it isn't cached
    yet and libseccomp isn't installed.
    """
    name = f"default-{VERSION}-{os.uname().machine}-{capabilities:x}"
    return cache.load(cache_dir, name) or _compile(default_profile(capabilities), cache_dir, name)


def default_profile(capabilities: int, machine: str | None = None) -> dict[str, Any]:
    """Return the default profile in the OCI runtime spec's form.

    ``machine`` is uname(2)'s, this machine's by default.  Raises Unsupported for one that the
    profile isn't written for.
    """
    from cloche.kernel.seccomp import default

    return default.profile(capabilities, machine or os.uname().machine)


def program(profile: Mapping[str, Any], cache_dir: str, *, source: str = "") -> bytes:
    """Return a ``linux.seccomp`` object compiled, from the cache or for it.

    The bytes are an array of ``struct sock_filter``, native byte order; install them with
    ``filter_flags(profile)``.

    Raises InvalidSpec with a pointer to what is wrong (or InvalidArgument naming ``source``, the
    file that the profile was loaded from), Unsupported for an action that this kernel lacks,
    MissingDependency when libseccomp isn't installed.
    """
    try:
        from _blake2 import blake2b  # hashlib loads OpenSSL, which takes 3 ms
    except ImportError:
        from hashlib import blake2b

    from cloche import json
    from cloche.errors import InvalidArgument, InvalidSpec
    from cloche.kernel.seccomp.profile import check_spec

    check_spec(profile)
    rules = {key: value for key, value in profile.items() if key not in _NOT_COMPILED}
    canonical = json.dumps(rules, sort_keys=True).encode()
    digest = blake2b(canonical, digest_size=32).hexdigest()
    name = f"blake2-{digest}-{VERSION}-{os.uname().machine}"
    try:
        return cache.load(cache_dir, name) or _compile(profile, cache_dir, name)
    except InvalidSpec as error:
        if source:
            raise InvalidArgument(f"seccomp profile {source}: {error.problem}") from error
        raise


def filter_flags(profile: Mapping[str, Any]) -> int:
    """Return the flags for seccomp(2) that go with a profile.

    A profile without any ``flags`` gets SECCOMP_FILTER_FLAG_SPEC_ALLOW, as runc gives it: else
    kernels before 5.16 slow the container's every memory access down (the mitigation for
    CVE-2018-3639) just because it has a filter.  SECCOMP_FILTER_FLAG_TSYNC is left out, since
    the filter is installed while there is only one thread; and without SCMP_ACT_NOTIFY
    SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV too, which is about notifications only (EINVAL).
    """
    from cloche.kernel.flags import SECCOMP_FILTER_FLAG_NEW_LISTENER, SECCOMP_FILTER_FLAGS

    notifies = has_listener(profile)
    ignored = SECCOMP_FILTER_FLAGS["SECCOMP_FILTER_FLAG_TSYNC"]
    if not notifies:
        ignored |= SECCOMP_FILTER_FLAGS["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]
    names = profile.get("flags")
    bits = 0
    for name in ("SECCOMP_FILTER_FLAG_SPEC_ALLOW",) if names is None else names:
        bits |= SECCOMP_FILTER_FLAGS[name]
    return bits & ~ignored | (SECCOMP_FILTER_FLAG_NEW_LISTENER if notifies else 0)


def has_listener(profile: Mapping[str, Any]) -> bool:
    """Whether a profile leaves system calls to a listener."""
    return any(rule["action"] == "SCMP_ACT_NOTIFY" for rule in profile.get("syscalls") or ())


def load_profile(path: str, capabilities: int) -> dict[str, Any]:
    """Return the profile in a file, in the OCI runtime spec's form.

    The file may be of that form already, or of the one that ``docker run --security-opt
    seccomp=FILE`` takes, whose rules can depend on architecture, kernel and capabilities (a
    mask).  Raises NotFound, PermissionDenied, or InvalidArgument naming the file and the place.
    """
    from cloche.kernel.seccomp import profile

    return profile.load(path, capabilities)


def _compile(profile: Mapping[str, Any], cache_dir: str, name: str) -> bytes:
    from cloche.kernel.seccomp import compiler

    built = compiler.build(profile)
    cache.store(cache_dir, name, built)
    return built
