"""Options that contradict each other."""

from typing import Any

import pytest

from cloche.engine.options import RunOptions, check
from cloche.engine.values import DeviceRate
from cloche.errors import InvalidArgument

MiB = 1 << 20


def test_usual_options_are_fine() -> None:
    """An image alone, a root directory alone, and limits that agree are fine."""
    check(RunOptions(image="host"))
    check(RunOptions(rootfs="/r", memory=64 * MiB, memory_swap=64 * MiB))
    check(RunOptions(image="host", memory_swap=-1, pids_limit=-1, cpu_quota=-1))
    check(RunOptions(image="host", annotations=(("cloche.landlock", "{}"), ("a", "b"))))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"image": ""}, "--rootfs"),
        ({"rootfs": "/r"}, "--rootfs"),
        ({"uts": "host", "hostname": "x"}, "--hostname"),
        ({"init": True, "pid": "host"}, "--init"),
        ({"annotations": (("cloche.root", "overlay"),)}, "cloche.root"),
        ({"memory": 6 * MiB - 1}, "--memory"),
        ({"memory_swap": 64 * MiB}, "--memory-swap"),
        ({"memory": 64 * MiB, "memory_swap": 32 * MiB}, "--memory-swap"),
        ({"memory": 64 * MiB, "memory_reservation": 65 * MiB}, "--memory-reservation"),
        ({"memory_swappiness": 101}, "--memory-swappiness"),
        ({"cpu_period": 999}, "--cpu-period"),
        ({"cpu_quota": 999}, "--cpu-quota"),
        ({"cpu_shares": 1}, "--cpu-shares"),
        ({"pids_limit": -2}, "--pids-limit"),
        ({"blkio_weight": 5}, "--blkio-weight"),
        ({"blkio_weight_devices": (DeviceRate("/dev/a", 2000),)}, "--blkio-weight"),
        ({"oom_score_adj": -1001}, "--oom-score-adj"),
        ({"shm_size": 0}, "--shm-size"),
    ],
)
def test_contradiction_names_the_option(options: dict[str, Any], named: str) -> None:
    """What can't be is refused before anything is done, by the option's name."""
    with pytest.raises(InvalidArgument) as caught:
        check(RunOptions(**{"image": "host", **options}))
    assert named in caught.value.message
