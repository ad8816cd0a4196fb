"""The operations that nodes are lowered to: what is computed on which stored tensors, before it is cut or placed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.elementwise import CodeRule, FixedAdd, FloatAdd, Product
from accelsim.arithmetic.requantize import Requantization
from accelsim.arithmetic.vector import Statistic
from accelsim.compiler.forms import Form
from accelsim.compiler.requantization import Rule as MatrixRule
from accelsim.compiler.requantization import planes
from accelsim.isa import Reduction

Three = tuple[int, int, int]


@dataclass(frozen=True)
class View:
    """Images (image, depth, line, pixel, channel) in a stored tensor; channels lie next to one another.

    `sizes` of those five axes; `pitches` in bytes of the first four; `offset` in bytes of the first element.
    """

    tensor: str
    sizes: tuple[int, int, int, int, int]
    pitches: tuple[int, int, int, int]
    offset: int = 0

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.sizes)


class Span(NamedTuple):
    """What windows cover along an axis: from `start` on, which may lie in the padding; `low`..`high` - 1 lie inside."""

    start: int
    low: int
    high: int

    @property
    def length(self) -> int:
        """How much of the axis they cover."""
        return max(self.high - self.low, 0)


def span(start: int, count: int, stride: int, kernel: int, dilation: int, size: int) -> Span:
    """What `count` windows cover of an axis of `size`, the first of which begins at `start`."""
    stop = start + (count - 1) * stride + (kernel - 1) * dilation + 1
    return Span(start, max(start, 0), min(stop, size))


@dataclass(frozen=True)
class Window:
    """A window along (depth, lines, pixels): `before` is the padding on the low side."""

    kernel: Three
    stride: Three
    before: Three
    dilation: Three

    def under(self, axis: int, outputs: tuple[int, int], size: int) -> Span:
        """What lies under the outputs first..last - 1 along an axis of the input, which has `size`."""
        (first, last), stride = outputs, self.stride[axis]
        start = first * stride - self.before[axis]
        return span(start, last - first, stride, self.kernel[axis], self.dilation[axis], size)


@dataclass(frozen=True)
class TensorWeights:
    """Weights that an operation before computed: int8 codes in DRAM, those of a sum `pitch_k` bytes apart, those of
    neighbouring outputs `pitch_n`."""

    tensor: str
    offset: int
    pitch_k: int
    pitch_n: int

    @property
    def by_output(self) -> bool:
        """Whether those of one output lie side by side, rather than one of each output."""
        return self.pitch_k == 1 and self.pitch_n != 1


@dataclass(frozen=True)
class Matrix:
    """A convolution, a linear layer, or a product of two activations: sums of raw codes times weights, requantised.

    `weights`: int8 (outputs, kernel depth, height, width, channels of a group), or where a tensor has them;
    `weight_zero_points` int32 (outputs,). Padding has the code `pad`. `rule` folds in what the input's zero point
    leaves; of weights that are not known now the array takes `zero_source` off the codes, in a second pass over them.
    """

    layer: int
    source: View
    target: View
    window: Window
    groups: int
    weights: np.ndarray | TensorWeights = field(repr=False, compare=False)
    weight_zero_points: np.ndarray = field(repr=False, compare=False)
    rule: MatrixRule = field(compare=False)
    pad: int
    signed: bool
    zero_source: int = 0

    @property
    def outputs(self) -> int:
        """Output channels."""
        return self.target.sizes[4]

    @property
    def result_bytes(self) -> int:
        """Bytes of an output: sums in binary32 have four."""
        return 4 if isinstance(self.rule, Requantization) and self.rule.binary32 else 1

    @property
    def constants(self) -> np.ndarray:
        """The rule's constants, uint32 (planes, outputs)."""
        return planes(self.rule, self.outputs)


@dataclass(frozen=True)
class PoolPart:
    """Outputs of a pool that one instruction can compute: lines `first[0]..+count[0]`, pixels `first[1]..+count[1]`.

    Output i of the part along an axis takes the inputs `start + i * stride + tap * dilation`; `channels` is a range.
    `rule` and `subtract` belong to a sum.
    """

    first: tuple[int, int]
    count: tuple[int, int]
    start: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    channels: tuple[int, int]
    subtract: int = 0
    rule: Requantization | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Pool:
    """A pool; the parts together make up its outputs."""

    layer: int
    source: View
    target: View
    reduction: Reduction
    parts: tuple[PoolPart, ...]
    signed: bool

    def lines_under(self, first: int, last: int) -> Span:
        """The input lines under the output lines first..last - 1."""
        spans = []
        for part in self.parts:
            top, bottom = max(part.first[0], first), min(part.first[0] + part.count[0], last)
            if top < bottom:
                start = part.start[0] + (top - part.first[0]) * part.stride[0]
                spans.append(
                    span(start, bottom - top, part.stride[0], part.kernel[0], part.dilation[0], self.source.sizes[2])
                )
        starts, lows, highs = zip(*spans, strict=True)
        return Span(min(starts), min(lows), max(highs))


@dataclass(frozen=True)
class Run:
    """`lines` rows of `length` elements, `pitch` apart, from element `start` on."""

    start: int
    length: int
    lines: int = 1
    pitch: int = 0


Rule = FloatAdd | FixedAdd | Product | CodeRule | int


@dataclass(frozen=True)
class Piece:
    """The elements of `runs` are computed by `rule`: that of a sum or a product, or the index of a table."""

    rule: Rule = field(compare=False)
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Elementwise:
    """`size` elements, one stored after the other in every operand, computed piece by piece; a later piece overwrites.

    `sources` and `target`: (tensor, byte of its first element). `signed`: for each source whether its codes are int8.
    `tables`: uint8 (T, 256) of a lookup.
    """

    layer: int
    sources: tuple[tuple[str, int], ...]
    target: tuple[str, int]
    size: int
    pieces: tuple[Piece, ...]
    signed: tuple[bool, ...]
    tables: np.ndarray | None = field(default=None, repr=False, compare=False)


def in_place(operation: Elementwise) -> bool:
    """Whether results may take the place of an operand: not where a later piece reads an element again."""
    return len(operation.pieces) == 1


@dataclass(frozen=True)
class Copy:
    """Elements moved by nested `loops` (count, source pitch, target pitch), outermost first, in the target's order."""

    layer: int
    source: tuple[str, int]
    target: tuple[str, int]
    loops: tuple[tuple[int, int, int], ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(count for count, _, _ in self.loops)


class Stream(NamedTuple):
    """The elements that a vector operation reads or writes of a tensor: byte of the first one, bytes from one to the
    next along each of its loops (0: the same again), and numpy's name of what they are."""

    tensor: str
    offset: int
    strides: tuple[int, ...]
    dtype: str

    @property
    def width(self) -> int:
        """Bytes of an element."""
        return np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Vector:
    """A program of the vector unit on every element of nested `loops`, outermost first; the last is a row.

    `words`: uint32 (steps, 4), which take `cycles`. Of a `statistic` the target has one element a row.
    """

    layer: int
    loops: tuple[int, ...]
    sources: tuple[Stream, ...]
    target: Stream
    words: np.ndarray = field(repr=False, compare=False)
    cycles: int
    statistic: Statistic

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The sources, then the target."""
        return (*self.sources, self.target)


Operation = Matrix | Pool | Elementwise | Copy | Vector


def sources_of(operation: Operation) -> tuple[str, ...]:
    """The tensors that an operation reads."""
    match operation:
        case Elementwise():
            return tuple(tensor for tensor, _ in operation.sources)
        case Vector():
            return tuple(stream.tensor for stream in operation.sources)
        case Copy():
            return (operation.source[0],)
        case Matrix(weights=TensorWeights() as weights):
            return (operation.source.tensor, weights.tensor)
    return (operation.source.tensor,)


def target_of(operation: Operation) -> str:
    """The tensor that an operation writes."""
    return operation.target[0] if isinstance(operation, Elementwise | Copy) else operation.target.tensor


@dataclass(frozen=True)
class Lowered:
    """A network as operations. `tensors`: bytes of each stored tensor; `forms`: where each value lies.

    `affine`: the affine map of each value. `constants`: what lies in the tensors that nothing writes.
    """

    name: str
    layers: tuple[str, ...]
    operations: tuple[Operation, ...]
    tensors: Mapping[str, int]
    forms: Mapping[str, Form]
    affine: Mapping[str, Affine]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, bytes] = field(default_factory=dict)
