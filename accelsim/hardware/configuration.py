"""The configuration of an accelerator: every key that a YAML file may carry, with its unit and its limits."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from accelsim.arithmetic.fixed_point import MOST_MULTIPLIER_BITS
from accelsim.arithmetic.units import ARITHMETICS
from accelsim.errors import ConfigurationError
from accelsim.reading import CONFIGURATION_BYTES, from_yaml, read_text, shown
from accelsim.summary import Shown, Summary

from . import shipped
from .dram_timings import PRESETS, DramTimings
from .expressions import UNITS
from .relations import RelationError, leaves, put, solve, split


def _size(value: Any) -> Any:
    """Bytes from an integer or a text such as `128KiB`; anything else is left for pydantic to refuse."""
    if isinstance(value, str):
        match = re.fullmatch(r" *([0-9]{1,12}) *([A-Za-z]*) *", value)
        if match is None or match[2].upper() not in UNITS:
            raise ValueError(f"{shown(value)} is no size; write bytes as an integer, or as 128KiB, 1MiB")
        return int(match[1]) * UNITS[match[2].upper()]
    return value


Bytes = Annotated[int, BeforeValidator(_size), Field(gt=0, le=2**32)]
Count = Annotated[int, Field(ge=1, le=4096)]


#: Wrong values that one error names.
_EXPLAINED = 12


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class MacArray(_Part):
    """A systolic array of `rows` x `columns` multiply-accumulate cells, one 9 x 9 bit product a cell and cycle.

    What moves from cell to cell passes a register after every `rows_per_stage` rows and `columns_per_stage` columns.
    With 1 every cell has its own; with more, the array takes fewer cycles to fill and to drain, of a slower clock.
    """

    rows: Count
    columns: Count
    dataflow: Literal["weight_stationary", "output_stationary", "input_stationary"] = "weight_stationary"
    rows_per_stage: Count = 1
    columns_per_stage: Count = 1

    @property
    def latency(self) -> int:
        """Cycles from the one in which a vector enters to that in which its results can be used."""
        return -(-self.rows // self.rows_per_stage) + -(-self.columns // self.columns_per_stage) - 1


class Scratchpad(_Part):
    """`bytes` in `banks` one byte wide, interleaved by address; each bank serves one byte a cycle and port."""

    bytes: Bytes
    banks: Count = 16

    @property
    def words(self) -> int:
        """How many words there are: a word is a byte."""
        return self.bytes

    def bytes_of(self, words: int) -> int:
        """Bytes of that many words."""
        return words


class AccumulatorMemory(_Part):
    """`bytes` of words of `bits` in `banks` one word wide, interleaved by word address."""

    bytes: Bytes
    banks: Count = 16
    bits: Annotated[int, Field(ge=16, le=32)] = 32

    @property
    def words(self) -> int:
        """How many accumulators there are."""
        return self.bytes * 8 // self.bits

    def bytes_of(self, words: int) -> int:
        """Bytes of that many accumulators, the last one a whole one."""
        return -(-words * self.bits // 8)


class Buffers(_Part):
    """The on-chip memories."""

    activation: Scratchpad
    weight: Scratchpad
    accumulator: AccumulatorMemory
    parameter: Scratchpad = Scratchpad(bytes=16384, banks=64)


class Arithmetic(_Part):
    """How accumulators become codes. In a file: a name, or `{fixed_point: {multiplier_bits: 31}}`.

    `multiplier_bits` is the width of fixed point's multiplier; the other arithmetics have none.
    """

    name: Literal["float32_exact", "fixed_point", "thresholds", "power_of_two", "gemmlowp", "textbook"]
    multiplier_bits: Annotated[int, Field(ge=1, le=MOST_MULTIPLIER_BITS)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        allowed = ", ".join(ARITHMETICS)
        form = "{fixed_point: {multiplier_bits: 31}}"
        if isinstance(value, str) and value in ARITHMETICS:
            bits = MOST_MULTIPLIER_BITS if value == "fixed_point" else None
            return {"name": value, "multiplier_bits": bits}
        if isinstance(value, dict) and value.keys() == {"fixed_point"}:
            options = value["fixed_point"]
            if isinstance(options, dict) and options.keys() == {"multiplier_bits"}:
                return {"name": "fixed_point", **options}
        raise ValueError(f"must be one of {allowed}, or {form}")

    @model_serializer
    def _write(self) -> str | dict[str, dict[str, int]]:
        if self.multiplier_bits is None:
            return self.name
        return {self.name: {"multiplier_bits": self.multiplier_bits}}

    @property
    def is_exact(self) -> bool:
        """Whether it gives every layer the engine's own codes."""
        return self.name in ("float32_exact", "thresholds")

    def __str__(self) -> str:
        return self.name if self.multiplier_bits is None else f"{self.name} {{multiplier_bits: {self.multiplier_bits}}}"


class RequantUnit(_Part):
    """`lanes` accumulators enter a cycle; a result leaves `latency` cycles later."""

    lanes: Count = 16
    arithmetic: Arithmetic = Arithmetic.model_validate("float32_exact")
    latency: Annotated[int, Field(ge=1, le=256)] = 6


class VectorUnit(_Part):
    """Element-wise work, pools and tables: `lanes` output elements a cycle.

    A step in binary32 can use the result of the one before it `latency` cycles later; as many vectors take turns.
    """

    lanes: Count = 16
    latency: Annotated[int, Field(ge=1, le=64)] = 4


class Dram(_Part):
    """`bytes_per_cycle` on the data bus; the first byte of a transfer arrives `latency` cycles after its request.

    Units share the bus in grants of at most `burst_beats` beats. `model: banked` puts the banks, rows and pins of a
    `preset` behind the bus: then `latency` is that of the way to the controller and back alone; DRAM's comes on top.
    """

    model: Literal["flat", "banked"] = "flat"
    preset: Literal["ddr4_2400", "lpddr4_3200", "hbm2"] | None = None
    bytes_per_cycle: Count = 16
    latency: Annotated[int, Field(ge=0, le=100_000)] = 60
    burst_beats: Annotated[int, Field(ge=1, le=4096)] = 4

    @model_validator(mode="after")
    def _check(self) -> Dram:
        if self.model == "banked" and self.preset is None:
            raise ValueError(f"preset: missing; model banked needs one of {', '.join(PRESETS)}")
        if self.model == "flat" and self.preset is not None:
            raise ValueError(f"preset: {self.preset} belongs to model banked; write model: banked, or remove preset")
        return self

    @property
    def timings(self) -> DramTimings | None:
        """The parts behind the bus; None for the flat model."""
        return None if self.preset is None else PRESETS[self.preset]

    def grain(self, banks: int) -> int:
        """Bytes that move at least between DRAM and a scratchpad of so many banks: what that takes, or a burst."""
        return min(self.bytes_per_cycle, banks) if self.timings is None else self.timings.burst_bytes


class L2(_Part):
    """A cache that fetches, loads and stores share, between DRAM and the scratchpads: `ways` lines in each of its sets.

    `bytes_per_cycle` move between it and the units, `latency` cycles after which a load is complete. It writes through.
    """

    bytes: Bytes
    line_bytes: Annotated[int, Field(ge=16, le=4096)] = 64
    ways: Annotated[int, Field(ge=1, le=16)] = 8
    bytes_per_cycle: Count = 32
    latency: Annotated[int, Field(ge=0, le=100_000)] = 10

    @property
    def sets(self) -> int:
        """How many sets there are: a power of two."""
        return self.bytes // (self.line_bytes * self.ways)

    @model_validator(mode="after")
    def _check(self) -> L2:
        for key in ("line_bytes", "bytes_per_cycle"):
            value = getattr(self, key)
            if value & (value - 1):
                raise ValueError(f"{key}: {value} is no power of two; write {1 << value.bit_length()}")
        if self.bytes_per_cycle > self.line_bytes:
            raise ValueError(f"bytes_per_cycle: {self.bytes_per_cycle} is more than line_bytes, {self.line_bytes}")
        way = self.line_bytes * self.ways
        if self.bytes % way or self.sets & (self.sets - 1):
            fitting = way << max(0, (self.bytes // way).bit_length() - 1)
            raise ValueError(
                f"bytes: {self.bytes} is no power of two times line_bytes * ways = {way}; write {fitting}, for example"
            )
        return self


class Queues(_Part):
    """Depth in instructions of each of the four queues that the fetcher fills."""

    depth: Annotated[int, Field(ge=1, le=1024)] = 8


class Accelerator(Shown, _Part):
    """One machine. Sizes in bytes (`128KiB` in a file), times in cycles.

    A whole number may be given as an expression of other keys: with `banks: "mac_array.columns"` the banks follow the
    columns, also in `replace`. Two machines are equal whose numbers are, however they were given.

    `clock_mhz` turns cycles into seconds in reports, and the clocks of a banked DRAM into cycles; else it changes none.
    """

    name: Annotated[str, Field(min_length=1, max_length=200)]
    clock_mhz: Annotated[float, Field(ge=0.001, le=1e6, allow_inf_nan=False)] = 500.0
    mac_array: MacArray
    buffers: Buffers
    requant_unit: RequantUnit = RequantUnit()
    vector_unit: VectorUnit = VectorUnit()
    dram: Dram = Dram()
    l2: L2 | None = None
    queues: Queues = Queues()
    _relations: dict[str, str] = PrivateAttr(default_factory=dict)

    def model_post_init(self, context: Any) -> None:
        """Keep the expressions that the numbers come from."""
        self._relations = dict(context or {})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Accelerator) and self.__dict__ == other.__dict__

    @property
    def relations(self) -> dict[str, str]:
        """The keys that were given as expressions of others, with those."""
        return dict(self._relations)

    def summary(self) -> Summary:
        """Clock, array, buffers, units and DRAM; every key with its value."""
        array, dram = self.mac_array, self.dram
        buffers = ", ".join(
            f"{name} {part.bytes / 1024:g} KiB in {part.banks} banks"
            for name, part in ((name, getattr(self.buffers, name)) for name in Buffers.model_fields)
        )
        kind = dram.model if dram.preset is None else f"{dram.model}, {dram.preset}"
        data = self.to_dict()
        return Summary(
            f"Accelerator {self.name}, {self.clock_mhz:g} MHz",
            (
                ("array", f"{array.rows} x {array.columns}, {array.dataflow.replace('_', ' ')}"),
                ("buffers", buffers),
                (
                    "post unit",
                    f"{self.requant_unit.lanes} + {self.vector_unit.lanes} lanes, {self.requant_unit.arithmetic}",
                ),
                ("DRAM", f"{kind}, {dram.bytes_per_cycle} bytes a cycle, latency {dram.latency}"),
            ),
            ("key", "value"),
            [(key, str(_value(data, key))) for key in _keys(data)],
        )

    @model_validator(mode="after")
    def _check(self) -> Accelerator:
        timings = self.dram.timings
        if self.l2 is not None and timings is not None and self.l2.line_bytes % timings.burst_bytes:
            raise ValueError(
                f"l2.line_bytes: {self.l2.line_bytes} is no whole number of DRAM's bursts of {timings.burst_bytes} "
                f"bytes; write {timings.burst_bytes}"
            )
        return self

    @model_serializer(mode="wrap")
    def _write(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A machine without L2 has no such key."""
        data: dict[str, Any] = handler(self)
        return {key: value for key, value in data.items() if key != "l2" or value is not None}

    @property
    def beyond(self) -> Dram | L2:
        """What the units' requests go to: the L2 where there is one."""
        return self.l2 or self.dram

    @property
    def dram_bytes_per_cycle(self) -> float:
        """What DRAM moves in a cycle at most: a beat of the bus, or what the pins do where that is less."""
        dram, timings = self.dram, self.dram.timings
        if timings is None:
            return dram.bytes_per_cycle
        return min(dram.bytes_per_cycle, timings.burst_bytes / timings.burst * timings.mhz / self.clock_mhz)

    @classmethod
    def from_dict(cls, data: Any, where: str = "configuration") -> Accelerator:
        """Validate a mapping. Raises ConfigurationError naming each wrong key, its value and what is allowed."""
        plain, relations = split(cls, data)
        machine = cls._validated(plain, where, {})
        if not relations:
            return machine
        try:
            numbers = solve(relations, leaves(machine.to_dict()))
        except RelationError as error:
            raise ConfigurationError(f"{where}: {error.key}: {error.reason}") from None
        return cls._validated(put(machine.to_dict(), numbers), where, relations)

    @classmethod
    def _validated(cls, data: Any, where: str, relations: dict[str, str]) -> Accelerator:
        try:
            return cls.model_validate(data, context=relations)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False)
            lines = [_explain(where, item, relations) for item in found[:_EXPLAINED]]
            if len(found) > _EXPLAINED:
                lines.append(f"{where}: {len(found) - _EXPLAINED} more are wrong")
            raise ConfigurationError("\n".join(lines)) from None

    @classmethod
    def from_yaml(cls, source: str | Path) -> Accelerator:
        """The configuration in a YAML file, or the one that comes along under a name: `from_yaml("edge_16x16")`.

        A file of that very name comes first. Raises ConfigurationError for what is neither, for a file that cannot be
        read or is not YAML, and for one that is no configuration.
        """
        if not os.path.exists(source) and str(source) in shipped.names():
            return cls.from_dict(from_yaml(shipped.text(str(source))), str(source))
        try:
            data = from_yaml(read_text(source, CONFIGURATION_BYTES))
        except ValueError as error:
            raise ConfigurationError(
                f"{source}: cannot be read ({error}); give a YAML file, or the name of a configuration that comes "
                f"along: {', '.join(shipped.names())}"
            ) from None
        return cls.from_dict(data, str(source))

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `from_dict` reads back."""
        return self.model_dump(mode="json")

    def replace(self, **changes: Any) -> Accelerator:
        """A copy with dotted keys changed: `replace(**{"mac_array.rows": 8})`. Raises ConfigurationError.

        Keys that were given as expressions follow the changed ones, unless they are changed themselves.
        `replace(**{"l2.bytes": 1 << 20})` gives a machine without L2 one, `replace(l2=None)` removes it.
        """
        numbers = {"l2": None} | self.to_dict()
        data = put(numbers, self._relations)
        for key, value in changes.items():
            *parents, last = key.split(".")
            part = data
            if parents == ["l2"] and last in L2.model_fields:
                part["l2"] = {last: None} | (part["l2"] or {})
            for parent in parents:
                part = part.get(parent) if isinstance(part, dict) else None  # type: ignore[assignment]
            if not isinstance(part, dict) or last not in part:
                raise ConfigurationError(f"{key}: no such key; the keys are {', '.join(leaves(numbers))}")
            part[last] = value
        return self.from_dict(data, self.name)


def _keys(data: dict[str, Any], prefix: str = "") -> list[str]:
    keys = []
    for name, value in data.items():
        keys += _keys(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name]
    return keys


def _value(data: dict[str, Any], key: str) -> Any:
    part: Any = data
    for name in key.split("."):
        part = part[name]
    return part


def _explain(where: str, item: Any, relations: dict[str, str]) -> str:
    key = ".".join(shown(part)[1:-1] if isinstance(part, str) else str(part) for part in item["loc"]) or "the file"
    if item["type"] == "extra_forbidden":
        return f"{where}: {key}: unknown key; remove it or correct its spelling"
    if item["type"] == "missing":
        return f"{where}: {key}: missing; it must be given"
    source = f" = {relations[key]}" if key in relations else ""
    return f"{where}: {key}: {item['msg'].removeprefix('Value error, ')} (got {shown(item['input'])}{source})"
