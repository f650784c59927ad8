"""Attacks on a process that enters a running container, by what runs in it."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.needs("root", "busybox", "gcc"), pytest.mark.orphans]
MAPS = [{"containerID": 0, "hostID": 100000, "size": 65536}]
