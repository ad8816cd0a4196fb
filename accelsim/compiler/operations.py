"""The operations that nodes are lowered to: what is computed on which stored tensors, before it is cut or placed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.elementwise import CodeRule, FixedAdd, FloatAdd, Product
from accelsim.arithmetic.requantize import Requantization
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


@dataclass(frozen=True)
class Window:
    """A window along (depth, lines, pixels): `before` is the padding on the low side."""

    kernel: Three
    stride: Three
    before: Three
    dilation: Three


@dataclass(frozen=True)
class Matrix:
    """A convolution or a linear layer: sums of raw codes times weights, requantised.

    `weights`: int8 (outputs, kernel depth, height, width, channels of a group), `weight_zero_points` int32 (outputs,);
    `rule` folds in what the input's zero point leaves; padding has the code `pad`.
    """

    layer: int
    source: View
    target: View
    window: Window
    groups: int
    weights: np.ndarray = field(repr=False, compare=False)
    weight_zero_points: np.ndarray = field(repr=False, compare=False)
    rule: MatrixRule = field(compare=False)
    pad: int
    signed: bool

    @property
    def outputs(self) -> int:
        """Output channels."""
        return self.target.sizes[4]

    @property
    def constants(self) -> np.ndarray:
        """The rule's constants, uint32 (planes, outputs)."""
        return planes(self.rule, self.outputs)


@dataclass(frozen=True)
class MatrixProduct:
    """A batch of matrix products of activations (..., M, K) and (..., K, N), requantised by `rule`.

    Each form has one stride an axis and the whole batch; the rows of `source` and `target` are dense. `weights` holds
    int8 codes in DRAM. `zero_source` and `zero_weights` are taken off the codes; `signed`: those of `source` are int8.
    """

    layer: int
    source: Form
    weights: Form
    target: Form
    rule: Requantization = field(compare=False)
    zero_source: int
    zero_weights: int
    signed: bool


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


Operation = Matrix | MatrixProduct | Pool | Elementwise | Copy


def sources_of(operation: Operation) -> tuple[str, ...]:
    """The tensors that an operation reads."""
    match operation:
        case Elementwise():
            return tuple(tensor for tensor, _ in operation.sources)
        case Copy():
            return (operation.source[0],)
        case MatrixProduct():
            return (operation.source.tensor, operation.weights.tensor)
    return (operation.source.tensor,)


def target_of(operation: Operation) -> str:
    """The tensor that an operation writes."""
    return operation.target[0] if isinstance(operation, Elementwise | Copy) else operation.target.tensor


@dataclass(frozen=True)
class Lowered:
    """A network as operations. `tensors`: bytes of each stored tensor; `forms`: where each value lies.

    `affine`: the affine map of each value.
    """

    name: str
    layers: tuple[str, ...]
    operations: tuple[Operation, ...]
    tensors: Mapping[str, int]
    forms: Mapping[str, Form]
    affine: Mapping[str, Affine]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
