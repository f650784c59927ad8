"""Compile a runtime spec into a plan.

Pure: what the host can do comes in as Features, what the caller wants beside the spec as Launch;
nothing is read, nothing is changed.  The order of a plan::

    HOST    directory and files of the container, its cgroups and limits
            spawn (clone3) . id maps . trees of the host
    CHILD       cgroups of v1 . namespaces . mounts . devices . names . pivot_root . limits
                session . streams . capabilities . user . filters . exec
    HOST    supervise, or leave a container that other commands manage

A field of the spec that no step can be made for is refused, never ignored.
"""

from __future__ import annotations

import os

from cloche.plan import (
    cgroups,
    devices,
    hooks,
    mounts,
    namespaces,
    overlay,
    privileges,
    process,
    root,
    steps,
    trees,
)
from cloche.plan.launch import Launch
from cloche.plan.situation import Situation, situation
from cloche.plan.steps import Plan, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.kernel.features import Features
    from cloche.oci.spec import Spec

_CGROUP_SLOT = 0
_USER_SLOT = 1
_GATE_SLOT = 2


def compile(spec: Spec, features: Features, launch: Launch) -> Plan:
    """Return the plan that builds the container a spec describes.

    The spec must have passed ``cloche.oci.validate`` or come from this program.  Raises
    InvalidSpec, Unsupported or ControllerUnavailable for what can't be done.
    """
    facts = situation(spec, features, launch)
    group = cgroups.placement(facts)
    host = trees.trees(facts)
    plan = directory(facts)
    plan += mounts.missing_sources(facts)
    plan += overlay.mount_point(facts)
    plan += cgroups.create(group, _CGROUP_SLOT, take=launch.complete)
    plan += cgroups.delegate(facts, group)
    shares, joined_shares = cache_shares(facts)
    plan += shares
    plan.append(process.streams(facts))
    plan += namespaces.before_spawn(facts, _USER_SLOT)
    plan.append(
        namespaces.spawn(
            facts, cgroup_slot=cgroups.birth_slot(group, _CGROUP_SLOT), user_slot=_USER_SLOT
        )
    )
    plan += namespaces.id_maps(facts)
    plan += namespaces.net_devices(facts)
    plan += overlay.host_trees(facts)
    plan += joined_shares
    plan += host.first()
    plan += cgroups.join(group)  # as long as the child's ids are the launcher's
    plan += cgroups.release(facts)
    plan += namespaces.inside(facts)
    plan += root.build(facts, host)
    plan += devices.devices(facts)
    plan += namespaces.names_and_network(facts)
    plan += hooks.before_entering(facts)
    plan += root.enter(facts)
    plan += privileges.limits(facts)
    plan += process.settle(facts)
    plan += root.close(facts)
    plan += privileges.drop(facts)
    plan += process.start(facts)
    plan += privileges.filters_before_waiting(facts)
    plan += process.wait_for_start(facts, _GATE_SLOT)
    plan += hooks.before_start(facts)
    plan += privileges.filters_at_the_end(facts)
    plan.append(process.become(facts))
    plan += process.watch(facts)
    return Plan(tuple(plan), (*privileges.warnings(facts), *mounts.warnings(facts)))


def directory(facts: Situation) -> list[Step]:
    """Make the container's directory with its files, and lock it."""
    launch = facts.launch
    why = "where what is known of running containers is kept"
    plan = [
        steps.make_dir(os.path.dirname(launch.directory), 0o711, keep=True, why=why),
        steps.lock(
            launch.directory,
            _mode(facts),
            why="the container's own; once the lock is free, any later command may clean up",
        ),
    ]
    if launch.name:
        plan.append(steps.make_dir(launch.names, 0o711, keep=True, why=why))
        plan.append(
            steps.make_link(
                os.path.relpath(launch.directory, launch.names),
                f"{launch.names}/{launch.name}",
                why="a link can be made only once, so that the name is taken by one alone",
            )
        )
    if launch.lifecycle:
        plan.append(steps.keep_records(launch.records, why="other commands read what it records"))
        plan.append(steps.keep_plan(launch.plan, why="the container can explain itself"))
    plan += [
        steps.make_file(
            f"{launch.directory}/{name}",
            0o600 if launch.lifecycle else 0o644,
            data,
            why="what other commands need to know of the container"
            if launch.lifecycle
            else "a file for the container",
        )
        for name, data in launch.files
    ]
    if launch.lifecycle and launch.lifecycle.gate:
        plan.append(steps.make_gate(_GATE_SLOT, launch.gate, why="the start command will open it"))
    return plan


def cache_shares(facts: Situation) -> tuple[list[Step], list[Step]]:
    """Return the steps for shares of caches: before there is a child, and with it."""
    if "intelRdt" not in facts.spec.get("linux", {}):
        return [], []
    from cloche.plan import resctrl

    return resctrl.create(facts), resctrl.join(facts)


def _mode(facts: Situation) -> int:
    """Return the mode of the container's directory: closed to the users of the host.

    Its files are mounted in the container, whose root may own them and make one a set-user-ID
    program: whoever reached it on the host would get that user's rights (as in CVE-2021-41091).
    Only a root of other ids has to get through; to it the files belong to nobody.
    """
    if not facts.in_user_namespace:
        return 0o700
    root = next((entry["hostID"] for entry in facts.uid_mappings), None)
    return 0o700 if root == facts.features.uid else 0o711
