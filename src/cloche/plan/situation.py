"""What a plan's parts must know of each other, found out once before any step is written."""

from __future__ import annotations

from cloche.errors import InvalidSpec
from cloche.kernel import flags
from cloche.plan.launch import Launch
from cloche.plan.steps import CHILD, HOST
from cloche.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.kernel.features import Features
    from cloche.kernel.idmap import Range
    from cloche.oci.spec import IDMapping, Spec


class Joined(Record):
    """A namespace that the container shares instead of getting a new one."""

    kind: int
    path: str


class Situation(Record):
    """One launch: its inputs, and what follows from them for more than one wall."""

    spec: Spec
    features: Features
    launch: Launch
    new: int
    """``CLONE_NEW*`` of every namespace to be made."""
    joined: tuple[Joined, ...]
    uid_mappings: tuple[IDMapping, ...]
    gid_mappings: tuple[IDMapping, ...]

    @property
    def in_user_namespace(self) -> bool:
        """Whether the container's capabilities count only in a user namespace of its own."""
        return self.makes(flags.CLONE_NEWUSER) or self.joins(flags.CLONE_NEWUSER) is not None

    @property
    def host_is_privileged(self) -> bool:
        """Whether the launcher itself may mount."""
        return self.features.may("CAP_SYS_ADMIN")

    @property
    def host_maps_any_id(self) -> bool:
        """Whether the launcher may write any id map, without newuidmap."""
        return self.features.may("CAP_SETUID")

    @property
    def devices_are_open(self) -> bool:
        """Whether no cgroup and no user namespace stands before the host's devices.

        The engine's spec then has no device rules, where nothing can enforce them.  Any node
        that the container found or made would open the device itself, so it must not make any
        (CAP_MKNOD) and none may count outside of /dev (``nodev``).
        """
        if self.launch.complete:
            return False
        rules = self.spec.get("linux", {}).get("resources", {}).get("devices", [])
        return self.host_is_privileged and not self.in_user_namespace and not rules

    def stage_with(self, capability: str) -> int:
        """Return the stage for a step on the child that may take a capability over the machine.

        In a user namespace the child has none of them, but its launcher may.
        """
        return HOST if self.in_user_namespace and self.features.may(capability) else CHILD

    @property
    def propagation(self) -> int:
        """How mounts are connected with the host's where the spec says nothing (``MS_*``).

        ``linux.rootfsPropagation`` "slave" lets the host's later mounts appear in the container.
        The other kinds are about mounts made in it, and are set at the end.
        """
        wanted = self.spec.get("linux", {}).get("rootfsPropagation", "")
        kind = flags.MS_SLAVE if wanted.removeprefix("r") == "slave" else flags.MS_PRIVATE
        return kind | flags.MS_REC

    @property
    def restricts_devices(self) -> bool:
        """Whether a runtime has to restrict devices: all but the kernel's own root can't."""
        return self.host_is_privileged and not self.features.in_user_namespace

    def makes(self, kind: int) -> bool:
        """Whether a new namespace of this kind is made."""
        return bool(self.new & kind)

    def joins(self, kind: int) -> str | None:
        """Return the path of the namespace of this kind to be joined, if any."""
        return next((joined.path for joined in self.joined if joined.kind == kind), None)

    def maps_uid(self, uid: int) -> bool:
        """Whether a user id exists in the container."""
        return self._exists(uid, self.uid_mappings, self.features.uids)

    def maps_gid(self, gid: int) -> bool:
        """Whether a group id exists in the container."""
        return self._exists(gid, self.gid_mappings, self.features.gids)

    def _exists(self, id: int, inside: tuple[IDMapping, ...], outside: tuple[Range, ...]) -> bool:
        if self.makes(flags.CLONE_NEWUSER):
            return any(
                mapping["containerID"] <= id < mapping["containerID"] + mapping["size"]
                for mapping in inside
            )
        if self.joins(flags.CLONE_NEWUSER) or not outside:
            return True  # as far as is known here
        return any(first <= id < first + size for first, size in outside)


def situation(spec: Spec, features: Features, launch: Launch) -> Situation:
    """Sort out a spec's namespaces.

    Raises InvalidSpec for what contradicts itself or can't be built.
    """
    linux = spec.get("linux", {})
    new = 0
    joined = []
    for index, namespace in enumerate(linux.get("namespaces", [])):
        kind = flags.NAMESPACE_KINDS[namespace["type"]]
        path = namespace.get("path", "")
        if path:
            joined.append(Joined(kind, path))
        else:
            new |= kind
        if path and kind == flags.CLONE_NEWNS:
            raise InvalidSpec(
                f"/linux/namespaces/{index}/path",
                f"is {path!r} but must not be there: the root is built in a new mount namespace",
            )
    if not new & flags.CLONE_NEWNS:
        raise InvalidSpec(
            "/linux/namespaces",
            "is without a mount namespace but must have one to build a root in",
            hint='add {"type": "mount"}: a chroot in the host\'s mounts would be no wall',
        )
    return Situation(
        spec,
        features,
        launch,
        new,
        tuple(joined),
        tuple(linux.get("uidMappings", [])),
        tuple(linux.get("gidMappings", [])),
    )
