"""The wire form of a plan: what the planner hands to the launcher in a sealed memfd.

Little-endian, every offset from the start::

    +--------------------+ 0
    | header, 64 bytes   |  magic, catalogue checksum, total size, counts, options
    +--------------------+ 64
    | steps, 16 each     |  u16 operation, u16 stage, u32 first value, u32 value count, u32 why
    +--------------------+
    | values, 16 each    |  u32 type, u32 length, u64 payload
    +--------------------+
    | data               |  strings, blobs and vectors
    +--------------------+ total size

A value's type is the letter of its signature.  The payload of ``i`` is the integer itself
(two's complement); of the others the offset of their data: ``s`` has ``length`` bytes and a
NUL, ``b`` has ``length`` bytes, ``v`` has a u32 byte count and then ``length`` strings, each with
its NUL.  ``why`` is the index of a value of type ``s``.

The decoder here is the twin of the launcher's (``native/decode.c``): both refuse anything that
isn't exactly of this form.
"""

from __future__ import annotations

import struct
import zlib

from cloche.errors import InvalidPlan
from cloche.plan.steps import CHILD, HOST, OPERATIONS, Plan, Step, Value
from cloche.record import Record

MAGIC = b"CLOCHE\r\n"
NONE = 0xFFFFFFFF
TIME_STEPS = 1
"""Record when each step began and ended."""
REPORT_ALWAYS = 2
"""Become the report program at the end even when nothing failed."""

_HEADER = struct.Struct("<8sIIIIIIII24x")
_STEP = struct.Struct("<HHIII")
_VALUE = struct.Struct("<IIQ")
_U32 = struct.Struct("<I")
_INT, _STRING, _BLOB, _VECTOR = (ord(letter) for letter in "isbv")
_TYPES: dict[str, type] = {"i": int, "s": str, "b": bytes, "v": tuple}


def catalogue_checksum() -> int:
    """Return the checksum of every operation's name and signature, in order of number."""
    text = "".join([f"{operation.name} {operation.signature}\n" for operation in OPERATIONS])
    return zlib.crc32(text.encode())


class Options(Record):
    """What the launcher shall do besides the steps."""

    flags: int = 0
    report: tuple[str, ...] = ()
    """The program that the launcher becomes when a step failed: its argv, without the two file
    descriptor numbers (plan, records) and the exit code that are added."""
    fail_step: int = NONE
    fail_errno: int = 0
    """A failpoint: this step fails with this errno instead of running."""


class _Encoder:
    """Collects values; their data begins at ``base``, so that each offset is known at once."""

    def __init__(self, base: int) -> None:
        self.base = base
        self.count = 0
        self.table = bytearray()
        self.data = bytearray()

    def add(self, value: Value) -> int:
        """Append a value and return its index."""
        offset = self.base + len(self.data)
        if isinstance(value, str):
            data = _text(value)
            self.table += _VALUE.pack(_STRING, len(data), offset)
            self.data += data + b"\0"
        elif isinstance(value, int):
            if not -(1 << 63) <= value < 1 << 63:
                raise InvalidPlan(f"the integer {value} has more than 64 bits")
            self.table += _VALUE.pack(_INT, 0, value & 0xFFFFFFFFFFFFFFFF)
        elif isinstance(value, bytes):
            self.table += _VALUE.pack(_BLOB, len(value), offset)
            self.data += value
        else:
            data = b"".join([_text(item) + b"\0" for item in value])
            self.table += _VALUE.pack(_VECTOR, len(value), offset)
            self.data += _U32.pack(len(data)) + data
        self.count += 1
        return self.count - 1


def _text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogateescape")
    if b"\0" in data:
        raise InvalidPlan(f"a string holds a NUL byte: {value!r}")
    return data


def encode(plan: Plan, options: Options = Options()) -> bytes:
    """Return the wire form of a plan.

    Raises InvalidPlan when an argument's type or range doesn't fit its operation.
    """
    count = sum([len(step.arguments) + 1 for step in plan.steps]) + bool(options.report)
    base = _HEADER.size + len(plan.steps) * _STEP.size + count * _VALUE.size
    encoder = _Encoder(base)
    numbers = {operation.name: number for number, operation in enumerate(OPERATIONS)}
    steps = bytearray()
    for (name, _, _, _, signature), stage, arguments, why in plan.steps:
        if len(signature) != len(arguments):
            raise InvalidPlan(f"{name} takes {len(signature)} arguments")
        first = encoder.count
        for kind, argument in zip(signature, arguments, strict=True):
            if not isinstance(argument, _TYPES[kind]):
                raise InvalidPlan(f"{name}: {argument!r} isn't of type {kind!r}")
            encoder.add(argument)
        steps += _STEP.pack(numbers[name], stage, first, len(signature), encoder.add(why))
    report = encoder.add(options.report) if options.report else NONE
    header = _HEADER.pack(
        MAGIC,
        catalogue_checksum(),
        base + len(encoder.data),
        len(plan.steps),
        count,
        options.flags,
        options.fail_step,
        options.fail_errno,
        report,
    )
    return b"".join((header, steps, encoder.table, encoder.data))


class _Decoder:
    def __init__(self, wire: bytes) -> None:
        if len(wire) < _HEADER.size:
            raise InvalidPlan("the plan is shorter than its header")
        fields = _HEADER.unpack_from(wire)
        magic, checksum, size, self.step_count, self.value_count = fields[:5]
        self.options = fields[5:]
        if magic != MAGIC or checksum != catalogue_checksum():
            raise InvalidPlan("not a plan of this version")
        self.base = _HEADER.size + self.step_count * _STEP.size + self.value_count * _VALUE.size
        if size != len(wire) or self.base > size or any(wire[40 : _HEADER.size]):
            raise InvalidPlan("the plan's size doesn't fit its header")
        self.wire = wire
        self.table = _HEADER.size + self.step_count * _STEP.size

    def value(self, index: int, kind: str) -> Value:
        if index >= self.value_count:
            raise InvalidPlan(f"value {index} is out of range")
        letter, length, payload = _VALUE.unpack_from(self.wire, self.table + index * _VALUE.size)
        if letter != ord(kind):
            raise InvalidPlan(f"value {index} isn't of type {kind!r}")
        if letter == _INT:
            return int(payload - (1 << 64) if payload >> 63 else payload)
        if letter == _STRING:
            data = self.data(payload, length + 1)
            if data.find(b"\0") != length:
                raise InvalidPlan(f"value {index} isn't a string")
            return data[:-1].decode("utf-8", "surrogateescape")
        if letter == _BLOB:
            return self.data(payload, length)
        size = _U32.unpack(self.data(payload, _U32.size))[0]
        data = self.data(payload + _U32.size, size)
        items = data.split(b"\0")
        if len(items) != length + 1 or items.pop():
            raise InvalidPlan(f"value {index} isn't a vector of {length} strings")
        return tuple(item.decode("utf-8", "surrogateescape") for item in items)

    def data(self, offset: int, size: int) -> bytes:
        if offset < self.base or offset + size > len(self.wire):
            raise InvalidPlan("data is out of range")
        return self.wire[offset : offset + size]

    def step(self, index: int) -> Step:
        number, stage, first, count, why = _STEP.unpack_from(
            self.wire, _HEADER.size + index * _STEP.size
        )
        if number >= len(OPERATIONS) or stage not in (HOST, CHILD):
            raise InvalidPlan(f"step {index} has no such operation or stage")
        operation = OPERATIONS[number]
        if count != len(operation.parameters):
            raise InvalidPlan(f"step {index}: {operation.name} has {count} arguments")
        arguments = tuple(
            self.value(first + position, kind) for position, kind in enumerate(operation.signature)
        )
        return Step(operation, stage, arguments, str(self.value(why, "s")))


def decode(wire: bytes) -> tuple[Plan, Options]:
    """Return the plan and options of a wire form.

    Raises InvalidPlan when the bytes aren't exactly of the form described above.
    """
    decoder = _Decoder(wire)
    plan = Plan(tuple(decoder.step(index) for index in range(decoder.step_count)))
    flags, fail_step, fail_errno, report = decoder.options
    argv = () if report == NONE else decoder.value(report, "v")
    assert isinstance(argv, tuple)
    return plan, Options(flags, argv, fail_step, fail_errno)
