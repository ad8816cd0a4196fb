"""The integer graph: values with their affine maps, and one frozen class for each kind of node. No torch object inside.

A node produces exactly one value, which carries the node's name. Shapes are PyTorch's (N, C, H, W); arrays of codes
are in PyTorch's logical order. How a rounding is done is not stored: it follows from the network's engine and kernel
set (`accelsim.arithmetic`).
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.elementwise import CodeRule, LargerCode
from accelsim.arithmetic.engines import KernelSet
from accelsim.arithmetic.onnxruntime import AddForm
from accelsim.errors import ModelError
from accelsim.limits import DEFAULT, Limits
from accelsim.summary import Shown, Summary, counted, tensors

from .output import Output

Pads = tuple[tuple[int, int], ...]  # (before, after) for each spatial axis


@dataclass(frozen=True)
class Value:
    """A quantised tensor: `order` lists its axes from slowest to fastest in PyTorch's memory (its strides).

    `dense`: there are no gaps between its elements there, as a slice of a larger tensor leaves.
    """

    name: str
    shape: tuple[int, ...]
    affine: Affine
    order: tuple[int, ...]
    dense: bool = True

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def lies_as(self, order: tuple[int, ...]) -> bool:
        """Whether PyTorch takes it for contiguous with its axes in `order`: axes of one element have no say."""
        if len(order) != len(self.shape) or not self.dense:
            return False
        return [axis for axis in self.order if self.shape[axis] > 1] == [a for a in order if self.shape[a] > 1]


@dataclass(frozen=True)
class Node:
    """`name` is the node's, and that of the value it produces; `inputs` name values."""

    name: str
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Weights:
    """Parameters of a convolution or a linear layer, as PyTorch packed them.

    `codes`: int8, (O, I / groups, *kernel), transposed convolution (I, O / groups, *kernel), linear (O, I).
    `scale`: float64, `zero_point`: int32, both of length 1 (per tensor) or O (per output channel).
    `bias`: float32 of length O in real units, or None. `key`: prefix of the `state_dict` entries, "" if unknown.
    `integer_bias`: int32 of length O, the bias in steps of the sums where the model holds it so (the engine
    onnxruntime); `bias` is then what it stands for.
    """

    codes: np.ndarray
    scale: np.ndarray
    zero_point: np.ndarray
    per_channel: bool
    bias: np.ndarray | None
    key: str = ""
    integer_bias: np.ndarray | None = None


@dataclass(frozen=True)
class Convolution(Node):
    """1-d, 2-d or 3-d convolution; a fused ReLU raises the lower clamp.

    `float_output`: in a network of the arithmetic "pt2e", the sums are quantised by an operator of their own, or are
    the layer's value in binary32.
    `mean`: in a network of the engine xnnpack, the weights are ones and the sums are requantised as a mean over as many
    elements as the kernel has.
    """

    weights: Weights
    stride: tuple[int, ...]
    padding: Pads
    dilation: tuple[int, ...]
    groups: int = 1
    relu: bool = False
    transposed: bool = False
    output_padding: tuple[int, ...] = ()
    float_output: bool = False
    mean: bool = False


@dataclass(frozen=True)
class Linear(Node):
    """`y = x W^T + b` over the last axis; `float_output` as in `Convolution`."""

    weights: Weights
    relu: bool = False
    float_output: bool = False


@dataclass(frozen=True)
class ResidualLayer(Node):
    """A layer of the arithmetic "pt2e" to whose sums a residual is added in binary32, before the one rounding.

    `inputs`: what the layer reads, and the residual, of the layer's shape. `layer` has the node's own name.
    """

    layer: Convolution | Linear


@dataclass(frozen=True)
class Add(Node):
    """Sum of two values, requantised; the second may be broadcast. `relu` as in `quantized::add_relu`.

    `row`: of how many elements of the output, in memory order, PyTorch makes one vector loop. None: all of them, where
    the operands lie alike and without gaps; 0: no vector loop at all.
    `form`: in a network of the engine onnxruntime, which of its kernels adds (`arithmetic.onnxruntime.AddForm`).
    `subtract`: the second value is subtracted; in a network of the engine xnnpack alone.
    """

    relu: bool = False
    row: int | None = None
    form: AddForm = "codes"
    subtract: bool = False


@dataclass(frozen=True)
class Multiply(Node):
    """Product of two values, element by element; either may be broadcast. `relu` and `row` as in `Add`."""

    relu: bool = False
    row: int | None = None


@dataclass(frozen=True)
class CodeNode(Node):
    """A function of the codes of two values, element by element, that is the same in every engine; either value may be
    broadcast. Both values and the result have one affine map."""

    @property
    def rule(self) -> CodeRule:
        """What becomes of two codes."""
        raise NotImplementedError


@dataclass(frozen=True)
class Maximum(CodeNode):
    """The larger of two values; with `smaller` the smaller one."""

    smaller: bool = False

    @property
    def rule(self) -> CodeRule:
        return LargerCode(self.smaller)


@dataclass(frozen=True)
class Lookup(Node):
    """A function of one 8-bit code: `tables` (T, 256) of uint8 bit patterns, indexed by the code's bit pattern.

    `spans`: (start, stop, table) over the flat elements in PyTorch's memory order; one where position does not matter.
    """

    operator: str
    tables: np.ndarray
    spans: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class MaxPool(Node):
    """Maximum over a window; padding never wins."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Pads
    dilation: tuple[int, ...]


@dataclass(frozen=True)
class AveragePool(Node):
    """Average over a window, to the affine map of its input (in the engine onnxruntime to any map).

    `kind`: "window" (avg_pool), "adaptive" (adaptive_avg_pool, output size = the value's), or "mean" (over all spatial
    axes); they round differently.

    `aten`: ATen computes it although the engine is qnnpack, whose kernels have no ceil mode, for example.
    """

    kind: str
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Pads
    count_include_pad: bool = True
    divisor: int | None = None
    aten: bool = False


@dataclass(frozen=True)
class Reshape(Node):
    """The same elements in logical (row-major) order under another shape: view, flatten, squeeze."""


@dataclass(frozen=True)
class Permute(Node):
    """`output axis i` is `input axis axes[i]`."""

    axes: tuple[int, ...]


@dataclass(frozen=True)
class Slice(Node):
    """`start:stop:step` along one axis."""

    axis: int
    start: int
    stop: int
    step: int = 1


@dataclass(frozen=True)
class Concatenate(Node):
    """Values side by side along `axis`; those whose affine map differs were passed through a `Lookup` before."""

    axis: int


@dataclass(frozen=True)
class Unfold(Node):
    """Windows of `size` elements along `axis`, `step` apart: one an element of the axis, their own axis the last."""

    axis: int
    size: int
    step: int


@dataclass(frozen=True)
class Gather(Node):
    """`output i` along `axis` is `input indices[i]`."""

    axis: int
    indices: tuple[int, ...]


@dataclass(frozen=True)
class Bilinear(Node):
    """Bilinear resize of images (N, C, H, W) to the value's; `factors`: the scale factors, where they were given."""

    align_corners: bool = False
    factors: tuple[float | None, float | None] = (None, None)


@dataclass(frozen=True)
class Matmul(Node):
    """Product of two values (..., M, K) and (..., K, N), broadcast as numpy does, requantised."""


@dataclass(frozen=True)
class Softmax(Node):
    """QNNPACK's softmax along one axis."""

    axis: int


@dataclass(frozen=True)
class LayerNorm(Node):
    """Normalisation over the last `axes` axes; `weight` and `bias`: float32 of the shape of these, or None."""

    axes: int
    weight: np.ndarray | None
    bias: np.ndarray | None
    epsilon: float


@dataclass(frozen=True)
class GroupNorm(Node):
    """Normalisation of (N, C, ...) over groups of channels; `weight` and `bias`: float32 (C,), or None.

    An instance norm has as many groups as channels.
    """

    groups: int
    weight: np.ndarray | None
    bias: np.ndarray | None
    epsilon: float


@dataclass(frozen=True, repr=False)
class Network(Shown):
    """An integer graph in execution order.

    `inputs` and `outputs` name values; `kernels` is the PyTorch kernel set whose lanes the roundings stand for.
    Raises ModelError when a node names a value that nothing produces before it.
    """

    engine: str
    kernels: KernelSet
    values: dict[str, Value]
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    name: str = "network"
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        known = set(self.inputs)
        for node in self.nodes:
            for name in node.inputs:
                if name not in known:
                    raise ModelError(f"node {node.name!r} reads {name!r}, which no node before it produces")
            if node.name in known:
                raise ModelError(f"two nodes are named {node.name!r}; a node's name must be its own")
            known.add(node.name)
        for name in (*self.outputs, *known):
            if name not in self.values:
                raise ModelError(f"value {name!r} has no shape and affine map")

    def summary(self) -> Summary:
        """Name, engine, inputs and outputs, how many nodes of each kind, bytes of weights; by node its value."""
        kinds = Counter(type(node).__name__ for node in self.nodes)
        weights = sum(node.weights.codes.nbytes for node in self.nodes if isinstance(node, Convolution | Linear))
        ends = [tensors((name, *self._form(name)) for name in names) for names in (self.inputs, self.outputs)]
        return Summary(
            f"Network {self.name}: {len(self.nodes):,} layers, engine {self.engine}, kernels {self.kernels.aten}",
            (
                ("inputs", ends[0]),
                ("outputs", ends[1]),
                ("layers", counted(kinds.most_common())),
                ("weights", f"{weights:,} bytes"),
            ),
            ("layer", "kind", "shape", "dtype", "scale", "zero point"),
            [
                (node.name, type(node).__name__, " x ".join(map(str, shape)), dtype, f"{affine.scale:.6g}", str(zero))
                for node in self.nodes
                for shape, dtype in [self._form(node.name)]
                for affine in [self.values[node.name].affine]
                for zero in [affine.zero_point]
            ],
        )

    def _form(self, name: str) -> tuple[tuple[int, ...], str]:
        return self.values[name].shape, self.values[name].affine.dtype

    def node(self, name: str) -> Node:
        """The node of that name. Raises ModelError listing the names there are."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise ModelError(f"no layer is named {name!r}; the layers are {', '.join(node.name for node in self.nodes)}")

    def run(self, x: Any, *, limits: Limits = DEFAULT) -> list[Output]:
        """The outputs for `x` by the integer reference executor.

        `x`: floats (quantised on the way in) or codes, a tuple for several inputs; the first axis may be a multiple of
        the network's. Raises InputError, and ModelError where one batch takes more than the `limits`.
        """
        from .reference import run

        return run(self, x, limits)

    def trace(self, x: Any, *, limits: Limits = DEFAULT) -> dict[str, np.ndarray]:
        """The codes of every value for `x`, by name; raises as `run`."""
        from .reference import trace

        return trace(self, x, limits)

    def apply(self, name: str, values: dict[str, np.ndarray]) -> np.ndarray:
        """The codes that node `name` makes of its inputs, taken from `values`."""
        from .reference import apply_in_batches

        return apply_in_batches(self, name, values)

    def save(self, path: str | Path) -> None:
        """Write one file: safetensors, with the graph as JSON in its metadata."""
        from .storage import save

        save(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Network:
        """Read a saved network. Raises FormatError naming the file and what is wrong with it."""
        from .storage import load

        return load(path)
