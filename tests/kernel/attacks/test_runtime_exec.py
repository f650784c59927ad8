"""Attacks on a process that enters a running container, by what runs in it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.kernel.attacks.conftest import Treasure
from tests.runtimes import Runtime, make_bundle, read_spec, wait_until, write_spec

pytestmark = [pytest.mark.needs("root", "busybox", "gcc"), pytest.mark.orphans]
MAPS = [{"containerID": 0, "hostID": 100000, "size": 65536}]
