"""The instruction set: each instruction declared once, with its fields, its meaning, its unit and what it touches.
Those that requantise accumulators stand in `requantization.py`.

An instruction is a macro-instruction: one scratchpad tile, walked by hardware address generators. Units run their own
instructions in order and wait for one another only through counting semaphores, one for each ordered pair of units:
`wait=load` takes a token from the semaphore (load -> this unit) before the instruction starts, `signal=post` puts one
into (this unit -> post) when it has completed.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, NamedTuple, Self

from accelsim.arithmetic.requantize import Step
from accelsim.errors import AssemblyError

from .fields import (
    INSTRUCTION_BYTES,
    MEMORY_BITS,
    UNITS_BITS,
    Field,
    Memory,
    Unit,
    Units,
    binary32,
    choice,
    layout,
    signed,
    unsigned,
)


class Region(NamedTuple):
    """Bytes `start..stop` of a memory: a hull of what is touched. An accumulator counts as four, of any width."""

    memory: Memory
    start: int
    stop: int


#: An instruction's rows that lie apart are regions of their own up to so many.
_ROWS = 8


def rows(start: int, loops: Sequence[tuple[int, int]], length: int) -> tuple[Region, ...]:
    """What `length` bytes touch of the activation buffer in nested loops of (count, pitch), outermost first."""
    extent = length
    for count, pitch in loops:
        extent += (count - 1) * pitch
    starts = [start]
    for count, pitch in loops:
        if count > 1:
            inner = extent - (count - 1) * pitch
            if pitch <= inner or count * len(starts) > _ROWS:
                break
            starts = [first + i * pitch for first in starts for i in range(count)]
            extent = inner
    return tuple([Region(Memory.ACTIVATION, first, first + extent) for first in starts])


def meet(some: Iterable[Region], others: Iterable[Region]) -> bool:
    """Whether any of the one have bytes in common with any of the others."""
    return any(a.memory == b.memory and a.start < b.stop and b.start < a.stop for a in some for b in others)


class Reduction(enum.IntEnum):
    """What a pool does with its window."""

    MAX = 0
    SUM = 1


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """Fields that every instruction has. Raises AssemblyError for a value that does not fit its field."""

    opcode: ClassVar[int]
    unit: ClassVar[Unit | None]
    mnemonic: ClassVar[str]

    wait: Units = choice(
        Units, UNITS_BITS, "units whose semaphore towards this one gives a token before the start", Units.NONE
    )
    signal: Units = choice(Units, UNITS_BITS, "units whose semaphore gets a token at the end", Units.NONE)

    def __post_init__(self) -> None:
        values = self.__dict__
        for item in layout(type(self)):
            value = values[item.name]
            if type(value) is not int or not item.limits[0] <= value <= item.limits[1]:
                item.check(self.mnemonic, value)  # an enumeration, a number, or an error

    @classmethod
    def fields(cls) -> tuple[Field, ...]:
        """The declared fields, in the order of the word."""
        return layout(cls)

    @classmethod
    def most(cls, name: str) -> int:
        """The largest integer that the field of that name takes."""
        (field,) = (item for item in layout(cls) if item.name == name)
        return field.limits[1]

    def with_tokens(self, wait: Units, signal: Units) -> Self:
        """The same instruction with these `wait` and `signal` fields; what has been checked is not checked again."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, wait=wait, signal=signal)
        return other

    def encode(self) -> bytes:
        """The instruction's word."""
        word = self.opcode
        for item in layout(type(self)):
            value = getattr(self, item.name)
            if value or item.kind == "float":  # most fields are 0, and leave their bits as they are
                word |= item.encode(value) << item.offset
        return word.to_bytes(INSTRUCTION_BYTES, "little")

    def reads(self) -> tuple[Region, ...]:
        """What the instruction reads."""
        return ()

    def writes(self) -> tuple[Region, ...]:
        """What the instruction writes."""
        return ()


@dataclass(frozen=True, kw_only=True)
class Halt(Instruction):
    """End of the program: the fetcher stops; the run ends when every unit has finished what it was given."""

    opcode = 0
    unit = None
    mnemonic = "halt"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.wait or self.signal:
            raise AssemblyError(
                "halt: has no unit, so it neither waits nor signals; the run ends when every unit has finished anyway"
            )


@dataclass(frozen=True, kw_only=True)
class _Transfer(Instruction):
    """`length` contiguous bytes, repeated by three nested loops (`count_1` innermost)."""

    dram: int = unsigned(40, "DRAM address")
    address: int = unsigned(32, "scratchpad address")
    length: int = unsigned(24, "contiguous bytes of one row")
    count_1: int = unsigned(16, "rows", 1)
    dram_pitch_1: int = unsigned(32, "DRAM bytes from row to row", 0)
    pitch_1: int = unsigned(24, "scratchpad bytes from row to row", 0)
    count_2: int = unsigned(16, "repetitions of the rows", 1)
    dram_pitch_2: int = unsigned(32, "DRAM bytes between them", 0)
    pitch_2: int = unsigned(24, "scratchpad bytes between them", 0)
    count_3: int = unsigned(16, "repetitions of those", 1)
    dram_pitch_3: int = unsigned(32, "DRAM bytes between them", 0)
    pitch_3: int = unsigned(24, "scratchpad bytes between them", 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive(self, "length", "count_1", "count_2", "count_3")

    @property
    def rows(self) -> int:
        """How many rows are moved."""
        return self.count_1 * self.count_2 * self.count_3

    @property
    def bytes(self) -> int:
        """How many bytes are moved."""
        return self.rows * self.length

    def _hull(self, memory: Memory, start: int, pitches: tuple[int, int, int]) -> Region:
        rows = (self.count_1 - 1) * pitches[0] + (self.count_2 - 1) * pitches[1] + (self.count_3 - 1) * pitches[2]
        return Region(memory, start, start + rows + self.length)

    def _dram(self) -> Region:
        return self._hull(Memory.DRAM, self.dram, (self.dram_pitch_1, self.dram_pitch_2, self.dram_pitch_3))

    def _local(self, memory: Memory) -> Region:
        return self._hull(memory, self.address, (self.pitch_1, self.pitch_2, self.pitch_3))


@dataclass(frozen=True, kw_only=True)
class Load(_Transfer):
    """Copy rows from DRAM into a scratchpad."""

    opcode = 1
    unit = Unit.LOAD
    mnemonic = "load"

    memory: Memory = choice(Memory, MEMORY_BITS, "activation, weight or parameter")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.memory not in (Memory.ACTIVATION, Memory.WEIGHT, Memory.PARAMETER):
            raise AssemblyError(
                f"load: memory={self.memory.name.lower()}; a load fills activation, weight or parameter"
            )

    def reads(self) -> tuple[Region, ...]:
        return (self._dram(),)

    def writes(self) -> tuple[Region, ...]:
        return (self._local(self.memory),)


@dataclass(frozen=True, kw_only=True)
class Store(_Transfer):
    """Copy rows from the activation buffer into DRAM."""

    opcode = 2
    unit = Unit.STORE
    mnemonic = "store"

    def reads(self) -> tuple[Region, ...]:
        return (self._local(Memory.ACTIVATION),)

    def writes(self) -> tuple[Region, ...]:
        return (self._dram(),)


@dataclass(frozen=True, kw_only=True)
class _Window(Instruction):
    """A window that slides over a tile of images stored line by line, pixel by pixel, channels innermost.

    The element for image i, output (oy, ox), tap (ky, kx) and channel c lies at line y = top + oy * stride_y +
    ky * dilation_y and pixel x = left + ox * stride_x + kx * dilation_x, at the address activation + i * image_pitch +
    y * line_pitch + x * pixel_pitch + c. Where y is outside 0..height - 1 or x outside 0..width - 1 it is padding and
    nothing is read.
    """

    activation: int = unsigned(32, "address of line 0, pixel 0")
    image_pitch: int = unsigned(32, "bytes from image to image", 0)
    line_pitch: int = unsigned(24, "bytes from line to line", 0)
    pixel_pitch: int = unsigned(16, "bytes from pixel to pixel", 0)
    images: int = unsigned(12, "images", 1)
    out_height: int = unsigned(16, "output lines", 1)
    out_width: int = unsigned(16, "output pixels of a line", 1)
    kernel_height: int = unsigned(8, "taps down", 1)
    kernel_width: int = unsigned(8, "taps across", 1)
    channels: int = unsigned(16, "channels")
    top: int = signed(16, "line of the first tap of the first output", 0)
    left: int = signed(16, "pixel of the first tap of the first output", 0)
    height: int = unsigned(16, "lines that exist", 1)
    width: int = unsigned(16, "pixels of a line that exist", 1)
    stride_y: int = unsigned(8, "lines from output to output", 1)
    stride_x: int = unsigned(8, "pixels from output to output", 1)
    dilation_y: int = unsigned(8, "lines from tap to tap", 1)
    dilation_x: int = unsigned(8, "pixels from tap to tap", 1)
    signed_activation: int = unsigned(1, "1: codes are int8, 0: uint8", 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive(self, "images", "out_height", "out_width", "kernel_height", "kernel_width", "channels")

    @property
    def pixels(self) -> int:
        """Output positions."""
        return self.images * self.out_height * self.out_width

    @property
    def taps(self) -> int:
        """Positions of the window."""
        return self.kernel_height * self.kernel_width

    def _touched(self) -> tuple[Region, ...]:
        lines = _inside(self.top, self.out_height, self.stride_y, self.kernel_height, self.dilation_y, self.height)
        pixels = _inside(self.left, self.out_width, self.stride_x, self.kernel_width, self.dilation_x, self.width)
        if lines is None or pixels is None:
            return ()
        start = self.activation + lines[0] * self.line_pitch + pixels[0] * self.pixel_pitch
        down, across = (last - first + 1 for first, last in (lines, pixels))
        loops = (self.images, self.image_pitch), (down, self.line_pitch), (across, self.pixel_pitch)
        return rows(start, loops, self.channels)


@dataclass(frozen=True, kw_only=True)
class Mac(_Window):
    """Multiply and accumulate one tile: a matrix product whose left operand is gathered by the window.

    For m = (image, oy, ox) in order, n < outputs and k = (ky, kx, c) in order: the word at accumulator +
    m * (outputs + accumulator_gap) + n becomes (its old value if `accumulate`, else 0) + sum over k of
    activation(m, k) * (weight(k, n) - weight_zero_point).
    Activations enter as raw codes, padding as the code `pad`; weight(k, n) is the int8 at
    weight + k * weight_pitch_k + n * weight_pitch_n. With `groups` G, c < channels / G, and output n sees only the
    channels of group n // (outputs / G): its activation's channel is (n // (outputs / G)) * channels / G + c.

    `unroll_groups` changes no sum, only how many groups share the array in one fold, block-diagonally; the last fold
    takes what is left of them.

    `unroll_pixels` changes no sum, only how the tile lies on the array: so many neighbouring outputs of a line are
    computed by one vector, each in columns of its own. Taps must then be neighbours (dilation_x = 1) without a gap from
    one output to the next (stride_x <= kernel_width).

    `same_weights` changes no sum either: it says that the mac before has taken the same weights from the same place,
    and that nothing has been written there since. An array that still holds them all does not read them again.
    """

    opcode = 3
    unit = Unit.MAC
    mnemonic = "mac"

    pad: int = signed(9, "code of the padding: the input's zero point", 0)
    outputs: int = unsigned(16, "output channels")
    weight: int = unsigned(32, "weight buffer address")
    weight_pitch_k: int = unsigned(20, "bytes from one reduction index to the next")
    weight_pitch_n: int = unsigned(20, "bytes from one output channel to the next", 1)
    weight_zero_point: int = signed(8, "subtracted from every weight", 0)
    accumulator: int = unsigned(24, "accumulator address, in words")
    accumulator_gap: int = unsigned(16, "words between the outputs of one pixel and those of the next", 0)
    accumulate: int = unsigned(1, "1: add to what the accumulators hold", 0)
    groups: int = unsigned(16, "groups that channels and outputs are divided into", 1)
    unroll_groups: int = unsigned(16, "groups that share the array in one fold", 1)
    unroll_pixels: int = unsigned(8, "neighbouring outputs of a line that one vector computes", 1)
    same_weights: int = unsigned(1, "1: the weights are those of the mac before, laid out alike", 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive(self, "outputs", "groups", "unroll_groups", "unroll_pixels")
        if self.unroll_groups > self.groups:
            raise AssemblyError(f"mac: unroll_groups={self.unroll_groups} of groups={self.groups}; it has no more")
        if self.unroll_pixels > 1 and (self.dilation_x != 1 or self.stride_x > self.kernel_width):
            raise AssemblyError(
                f"mac: unroll_pixels={self.unroll_pixels} takes dilation_x=1 and no stride_x over kernel_width, not "
                f"dilation_x={self.dilation_x}, stride_x={self.stride_x}, kernel_width={self.kernel_width}"
            )
        if self.unroll_pixels > self.out_width:
            raise AssemblyError(
                f"mac: unroll_pixels={self.unroll_pixels} of a line of out_width={self.out_width}; it has no more"
            )
        if self.channels % self.groups or self.outputs % self.groups:
            raise AssemblyError(
                f"mac: channels={self.channels} and outputs={self.outputs} must be multiples of groups={self.groups}"
            )

    @property
    def reduction(self) -> int:
        """Length K of the sum of one output."""
        return self.taps * self.channels // self.groups

    @property
    def stationary(self) -> tuple[int, ...]:
        """What decides which weight stands in which cell of an array that holds them."""
        place = self.weight, self.weight_pitch_k, self.weight_pitch_n, self.weight_zero_point
        sizes = self.kernel_height, self.kernel_width, self.channels, self.outputs, self.groups
        return *place, *sizes, self.unroll_groups, self.unroll_pixels, self.stride_x if self.unroll_pixels > 1 else 0

    @property
    def vectors(self) -> int:
        """Vectors of activations of a fold: each for `unroll_pixels` outputs of a line, its last one for the rest."""
        return self.images * self.out_height * -(-self.out_width // self.unroll_pixels)

    @property
    def unrolled_width(self) -> int:
        """Input pixels of a line under the outputs of one vector (with one output: its taps across)."""
        return self.kernel_width + (self.unroll_pixels - 1) * self.stride_x

    @property
    def vector_width(self) -> int:
        """Pixels of a line that exist for the address generator: what no output of the line sees is padding too.

        Only the last vector of a line reaches beyond the line's last tap, for columns whose results nobody writes.
        """
        last_tap = self.left + (self.out_width - 1) * self.stride_x + (self.kernel_width - 1) * self.dilation_x
        return max(min(self.width, last_tap + 1), 0)

    @property
    def accumulator_pitch(self) -> int:
        """Words from pixel to pixel."""
        return self.outputs + self.accumulator_gap

    @property
    def macs(self) -> int:
        """Products, those with padding included."""
        return self.pixels * self.reduction * self.outputs

    def reads(self) -> tuple[Region, ...]:
        last = (self.reduction - 1) * self.weight_pitch_k + (self.outputs - 1) * self.weight_pitch_n
        weights = Region(Memory.WEIGHT, self.weight, self.weight + last + 1)
        return (*self._touched(), weights, *(self.writes() if self.accumulate else ()))

    def writes(self) -> tuple[Region, ...]:
        words = (self.pixels - 1) * self.accumulator_pitch + self.outputs
        return (Region(Memory.ACCUMULATOR, 4 * self.accumulator, 4 * (self.accumulator + words)),)


@dataclass(frozen=True, kw_only=True)
class _Lines(Instruction):
    """`lines` rows of `length` bytes, element by element."""

    lines: int = unsigned(20, "rows", 1)
    length: int = unsigned(24, "elements of a row")
    out: int = unsigned(32, "activation buffer address of the result")
    out_pitch: int = unsigned(24, "bytes from row to row of the result", 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive(self, "lines", "length")

    @property
    def elements(self) -> int:
        """Elements of the result."""
        return self.lines * self.length

    def _hull(self, start: int, pitch: int) -> Region:
        return Region(Memory.ACTIVATION, start, start + (self.lines - 1) * pitch + self.length)

    def writes(self) -> tuple[Region, ...]:
        return (self._hull(self.out, self.out_pitch),)


@dataclass(frozen=True, kw_only=True)
class _Binary(_Lines):
    """Two operands from the activation buffer."""

    a: int = unsigned(32, "activation buffer address of the first operand")
    a_pitch: int = unsigned(24, "bytes from row to row", 0)
    signed_a: int = unsigned(1, "1: its codes are int8", 0)
    b: int = unsigned(32, "activation buffer address of the second operand")
    b_pitch: int = unsigned(24, "bytes from row to row", 0)
    signed_b: int = unsigned(1, "1: its codes are int8", 0)

    def reads(self) -> tuple[Region, ...]:
        return (self._hull(self.a, self.a_pitch), self._hull(self.b, self.b_pitch))


@dataclass(frozen=True, kw_only=True)
class Add(_Binary):
    """Add in binary32: f(q) = fma(q - subtract, scale, offset) of each operand, f32(f(a) + f(b)), then `steps`.

    With `fused` the sum is fma(a - subtract_a, scale_a, f(b)), one rounding less, and offset_a has no part in it.

    Of the steps only `multiplier` or `divisor` (whose constant is the field `multiplier`), `zero_point_first` and
    `fused_zero_point`.
    """

    opcode = 5
    unit = Unit.POST
    mnemonic = "add"

    subtract_a: int = signed(9, "integer taken from a's code first", 0)
    scale_a: float = binary32("factor of a")
    offset_a: float = binary32("added to a in the same rounding", 0.0)
    subtract_b: int = signed(9, "integer taken from b's code first", 0)
    scale_b: float = binary32("factor of b")
    offset_b: float = binary32("added to b in the same rounding", 0.0)
    steps: Step = choice(Step, 10, "steps of the requantisation")
    multiplier: float = binary32("constant of the multiplier or the divisor step")
    zero_point: int = signed(9, "output zero point")
    minimum: int = signed(9, "lower clamp")
    maximum: int = signed(9, "upper clamp")
    fused: int = unsigned(1, "1: a's product and the sum are rounded once", 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_clamps(self, self.minimum, self.maximum)
        check_steps(self, self.steps)


@dataclass(frozen=True, kw_only=True)
class AddFixed(_Binary):
    """Add in fixed point: (multiplier_a * (a - zero_a) + multiplier_b * (b - zero_b)) / 2^shift rounded to nearest,
    halves away from zero, plus the zero point, clamped."""

    opcode = 6
    unit = Unit.POST
    mnemonic = "add_fixed"

    multiplier_a: int = signed(32, "factor of a")
    zero_a: int = signed(9, "a's zero point")
    multiplier_b: int = signed(32, "factor of b")
    zero_b: int = signed(9, "b's zero point")
    shift: int = unsigned(6, "binary places of the factors")
    zero_point: int = signed(9, "output zero point")
    minimum: int = signed(9, "lower clamp")
    maximum: int = signed(9, "upper clamp")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_clamps(self, self.minimum, self.maximum)


@dataclass(frozen=True, kw_only=True)
class Multiply(_Binary):
    """The integer product (a - zero_a) * (b - zero_b), then `steps`, whose constant is `multiplier`."""

    opcode = 7
    unit = Unit.POST
    mnemonic = "multiply"

    zero_a: int = signed(9, "a's zero point")
    zero_b: int = signed(9, "b's zero point")
    steps: Step = choice(Step, 10, "steps of the requantisation")
    multiplier: float = binary32("constant of the multiplier step")
    zero_point: int = signed(9, "output zero point")
    minimum: int = signed(9, "lower clamp")
    maximum: int = signed(9, "upper clamp")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_clamps(self, self.minimum, self.maximum)
        check_steps(self, self.steps)


@dataclass(frozen=True, kw_only=True)
class Lookup(_Lines):
    """Replace each byte by the entry of a 256-byte table of the parameter buffer that it indexes."""

    opcode = 8
    unit = Unit.POST
    mnemonic = "lookup"

    source: int = unsigned(32, "activation buffer address of the operand")
    source_pitch: int = unsigned(24, "bytes from row to row", 0)
    table: int = unsigned(32, "parameter buffer address of the table")

    def reads(self) -> tuple[Region, ...]:
        return (self._hull(self.source, self.source_pitch), Region(Memory.PARAMETER, self.table, self.table + 256))


@dataclass(frozen=True, kw_only=True)
class Pool(_Window):
    """Reduce each window, channel by channel; padding takes no part.

    `max`: the largest code. `sum`: the sum of code - subtract, then `steps`, whose constant (multiplier or divisor) is
    `factor`.
    """

    opcode = 9
    unit = Unit.POST
    mnemonic = "pool"

    reduction: Reduction = choice(Reduction, 1, "max or sum")
    out: int = unsigned(32, "activation buffer address of the result")
    out_image_pitch: int = unsigned(24, "bytes from image to image of the result", 0)
    out_line_pitch: int = unsigned(20, "bytes from line to line of the result", 0)
    out_pixel_pitch: int = unsigned(16, "bytes from pixel to pixel of the result", 0)
    subtract: int = signed(9, "input zero point, taken from each code of a sum", 0)
    steps: Step = choice(Step, 10, "steps of the requantisation of a sum", Step(0))
    factor: float = binary32("constant of the multiplier or the divisor step", 1.0)
    zero_point: int = signed(9, "output zero point", 0)
    minimum: int = signed(9, "lower clamp", 0)
    maximum: int = signed(9, "upper clamp", 255)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reduction == Reduction.SUM:
            check_clamps(self, self.minimum, self.maximum)
            check_steps(self, self.steps)
            if self.steps & Step.DIVISOR and not self.factor:
                raise AssemblyError(
                    "pool: factor=0 is the divisor of every sum; give the number of a window's elements"
                )

    def reads(self) -> tuple[Region, ...]:
        return self._touched()

    def writes(self) -> tuple[Region, ...]:
        lines = (self.images, self.out_image_pitch), (self.out_height, self.out_line_pitch)
        return rows(self.out, (*lines, (self.out_width, self.out_pixel_pitch)), self.channels)


def check_clamps(instruction: Instruction, minimum: int, maximum: int) -> None:
    """Raise AssemblyError for codes that are none of one byte: the memory would hold others."""
    if not (0 <= minimum <= maximum <= 255 or -128 <= minimum <= maximum <= 127):
        raise AssemblyError(
            f"{instruction.mnemonic}: minimum={minimum} maximum={maximum}; codes rise from minimum to maximum within "
            "0..255 or within -128..127"
        )


def check_steps(instruction: Instruction, steps: Step) -> None:
    """Raise AssemblyError for steps of which one would be left out without a word."""
    wrong = None
    if steps & Step.BIAS and steps & Step.FUSED_BIAS:
        wrong = "bias and fused_bias are two forms of one step"
    elif steps & Step.FUSED_ZERO_POINT and steps & Step.ZERO_POINT_FIRST:
        wrong = "fused_zero_point and zero_point_first are two forms of one step"
    elif steps & Step.FUSED_ZERO_POINT and not steps & Step.MULTIPLIER:
        wrong = "fused_zero_point is the multiplier's addition; it takes multiplier"
    if wrong is not None:
        raise AssemblyError(f"{instruction.mnemonic}: steps={str(steps.name).lower().replace('|', '+')}: {wrong}")


def _positive(instruction: Instruction, *names: str) -> None:
    for name in names:
        if getattr(instruction, name) < 1:
            raise AssemblyError(f"{instruction.mnemonic}: {name}=0; it must be at least 1")


@lru_cache(maxsize=1 << 14)
def inside(start: int, outputs: int, stride: int, taps: int, dilation: int, limit: int) -> tuple[tuple[int, int], ...]:
    """For each tap along one axis, the outputs (first, one past the last) whose coordinate is in 0..limit - 1.

    The coordinate of output o and tap t is start + o * stride + t * dilation. (0, 0) where there is none.
    """
    ranges = []
    for tap in range(taps):
        low = start + tap * dilation
        if stride == 0:
            first, stop = 0, outputs if 0 <= low < limit else 0
        else:
            first, stop = max(0, -(low // stride)), min(outputs, (limit - 1 - low) // stride + 1)
        ranges.append((first, stop) if first < stop else (0, 0))
    return tuple(ranges)


@lru_cache(maxsize=1 << 14)
def _inside(start: int, outputs: int, stride: int, taps: int, dilation: int, limit: int) -> tuple[int, int] | None:
    """Smallest and largest coordinate in 0..limit - 1 that the window touches, or None if it touches none."""
    ranges = enumerate(inside(start, outputs, stride, taps, dilation, limit))
    ends = [
        (start + tap * dilation + first * stride, start + tap * dilation + (stop - 1) * stride)
        for tap, (first, stop) in ranges
        if stop
    ]
    return (min(low for low, _ in ends), max(high for _, high in ends)) if ends else None
