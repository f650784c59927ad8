"""What a container may use, as its cgroup shall have it."""

from __future__ import annotations

from cloche.engine import defaults, devices
from cloche.engine.options import RunOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.kernel.features import Features
    from cloche.oci.spec import BlockIo, Cpu, DeviceRule, Memory, Resources


def resources(options: RunOptions, given: list[devices.Found], features: Features) -> Resources:
    """Return the limits that options ask for; ``given`` are the devices of the container.

    Raises NotFound and InvalidArgument for limits on devices that aren't there.
    """
    result: Resources = {}
    rules = _device_rules(options, given, features)
    if rules:
        result["devices"] = rules
    memory = _memory(options, features)
    if memory:
        result["memory"] = memory
    cpu = _cpu(options)
    if cpu:
        result["cpu"] = cpu
    if options.pids_limit is not None:
        result["pids"] = {"limit": options.pids_limit}
    block = _block_io(options)
    if block:
        result["blockIO"] = block
    return result


def _device_rules(
    options: RunOptions, given: list[devices.Found], features: Features
) -> list[DeviceRule]:
    """Return the rules of access; the usual ones only where the machine can enforce rules.

    That everything is allowed is said everywhere: without rules the plan keeps nodes from opening.
    """
    if options.privileged:
        return [{"allow": True, "access": "rwm"}]
    asked: list[DeviceRule] = []
    for rule in options.device_rules:
        entry: DeviceRule = {"allow": True, "access": rule.access}
        if rule.type == "b":
            entry["type"] = "b"
        elif rule.type == "c":
            entry["type"] = "c"
        if rule.major >= 0:
            entry["major"] = rule.major
        if rule.minor >= 0:
            entry["minor"] = rule.minor
        asked.append(entry)
    if not (asked or features.devices_enforceable):
        return []
    return [*defaults.device_rules(), *(found.rule() for found in given), *asked]


def _memory(options: RunOptions, features: Features) -> Memory:
    memory: Memory = {}
    if options.memory is not None:
        memory["limit"] = options.memory
    if options.memory_swap is not None:
        memory["swap"] = options.memory_swap
    elif options.memory is not None and features.cgroups.swap:
        # Docker's default: as much swap as memory.
        memory["swap"] = 2 * options.memory
    if options.memory_reservation is not None:
        memory["reservation"] = options.memory_reservation
    if options.memory_swappiness is not None:
        memory["swappiness"] = options.memory_swappiness
    return memory


def _cpu(options: RunOptions) -> Cpu:
    cpu: Cpu = {}
    if options.cpu_quota is not None:
        cpu["quota"] = options.cpu_quota
    if options.cpu_period is not None:
        cpu["period"] = options.cpu_period
    if options.cpu_shares is not None:
        cpu["shares"] = options.cpu_shares
    if options.cpuset_cpus:
        cpu["cpus"] = options.cpuset_cpus
    if options.cpuset_mems:
        cpu["mems"] = options.cpuset_mems
    return cpu


def _block_io(options: RunOptions) -> BlockIo:
    block: BlockIo = {}
    if options.blkio_weight is not None:
        block["weight"] = options.blkio_weight
    if options.blkio_weight_devices:
        block["weightDevice"] = []
        for rate in options.blkio_weight_devices:
            major, minor = devices.numbers(rate)
            block["weightDevice"].append({"major": major, "minor": minor, "weight": rate.value})
    if options.device_read_bps:
        block["throttleReadBpsDevice"] = devices.throttles(options.device_read_bps)
    if options.device_write_bps:
        block["throttleWriteBpsDevice"] = devices.throttles(options.device_write_bps)
    if options.device_read_iops:
        block["throttleReadIOPSDevice"] = devices.throttles(options.device_read_iops)
    if options.device_write_iops:
        block["throttleWriteIOPSDevice"] = devices.throttles(options.device_write_iops)
    return block
