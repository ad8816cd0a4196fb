"""Random networks of integers, for tests that need no PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.engines import KernelSet
from accelsim.compiler import compile
from accelsim.compiler.operations import Three, Window
from accelsim.compiler.plan.shape import Shape
from accelsim.errors import CompileError
from accelsim.hardware import Accelerator
from accelsim.hardware.configuration import MacArray
from accelsim.isa import Program
from accelsim.network import (
    Add,
    Concatenate,
    Convolution,
    Linear,
    Lookup,
    MaxPool,
    Multiply,
    Network,
    Node,
    Permute,
    Reshape,
    Slice,
    Value,
    Weights,
)
from accelsim.network.graph import Maximum

KERNELS = KernelSet("avx2", "vnni")


def matrix_shape(
    target: Sequence[int],
    source: Sequence[int],
    kernel: int | tuple[int, int],
    *,
    stride: int = 1,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    array: MacArray,
    banks: Sequence[int],
) -> Shape:
    """A convolution of one image: (lines, pixels, channels) of its output and of its input, no padding.

    `banks` of the activations, of the weights and of the accumulators.
    """

    def three(value: int | tuple[int, int], depth: int) -> Three:
        return (depth, value, value) if isinstance(value, int) else (depth, *value)

    window = Window(three(kernel, 1), three(stride, 1), (0, 0, 0), three(dilation, 1))
    (out_lines, out_pixels, outputs), (lines, pixels, channels) = target, source
    activation, weight, accumulator = banks
    return Shape(
        images=1, out_depth=1, out_lines=out_lines, out_pixels=out_pixels, outputs=outputs,
        depth=1, lines=lines, pixels=pixels, channels=channels, groups=groups, window=window, planes=3,
        array=array, banks=activation, weight_banks=weight, accumulator_banks=accumulator,
    )  # fmt: skip


class Draft:
    """A network in the making; every call adds a node and returns the name of its value."""

    def __init__(self, rng: np.random.Generator, engine: str = "fbgemm") -> None:
        self.rng, self.engine = rng, engine
        self.values: dict[str, Value] = {}
        self.nodes: list[Node] = []
        self.inputs: list[str] = []

    def affine(self) -> Affine:
        dtype: Any = "uint8"
        return Affine(float(np.float32(2.0 ** self.rng.integers(-6, -2))), int(self.rng.integers(0, 255)), dtype)

    def _value(self, name: str, shape: tuple[int, ...], affine: Affine | None = None) -> str:
        rank = len(shape)
        order = (0, *range(2, rank), 1) if rank > 2 else tuple(range(rank))
        self.values[name] = Value(name, shape, affine or self.affine(), order)
        return name

    def _add(self, node: Node, shape: tuple[int, ...], affine: Affine | None = None) -> str:
        self.nodes.append(node)
        return self._value(node.name, shape, affine)

    def _name(self) -> str:
        return f"n{len(self.nodes)}"

    def shape(self, name: str) -> tuple[int, ...]:
        return self.values[name].shape

    def input(self, shape: tuple[int, ...]) -> str:
        name = f"x{len(self.inputs)}"
        self.inputs.append(name)
        return self._value(name, shape)

    def weights(self, shape: tuple[int, ...], outputs: int) -> Weights:
        rng = self.rng
        per_channel = bool(rng.integers(2)) and self.engine != "qnnpack"
        count = outputs if per_channel else 1
        scale = np.float32(2.0 ** rng.integers(-9, -5, count)).astype(np.float64)
        zero = np.zeros(count, np.int32)
        bias = rng.normal(0, 1, outputs).astype(np.float32) if rng.integers(4) else None
        return Weights(rng.integers(-127, 128, shape).astype(np.int8), scale, zero, per_channel, bias)

    def convolution(self, source: str, outputs: int, kernel: Any, **options: Any) -> str:
        n, channels, *size = self.shape(source)
        rank = len(size)

        def axes(value: Any) -> tuple[int, ...]:
            return (value,) * rank if isinstance(value, int) else tuple(value)

        kernel, stride, dilation = axes(kernel), axes(options.get("stride", 1)), axes(options.get("dilation", 1))
        padding = tuple((p, p) for p in axes(options.get("padding", 0)))
        groups, transposed = options.get("groups", 1), options.get("transposed", False)
        extra = axes(options.get("output_padding", 0)) if transposed else ()
        spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        if transposed:
            shape = (channels, outputs // groups, *kernel)
            out = [
                (s - 1) * t - 2 * p[0] + span + e
                for s, t, p, span, e in zip(size, stride, padding, spans, extra, strict=True)
            ]
        else:
            shape = (outputs, channels // groups, *kernel)
            out = [(s + 2 * p[0] - span) // t + 1 for s, t, p, span in zip(size, stride, padding, spans, strict=True)]
        node = Convolution(
            self._name(),
            (source,),
            self.weights(shape, outputs),
            stride,
            padding,
            dilation,
            groups,
            bool(self.rng.integers(2)),
            transposed,
            extra,
        )
        return self._add(node, (n, outputs, *out))

    def linear(self, source: str, outputs: int) -> str:
        *lead, features = self.shape(source)
        node = Linear(self._name(), (source,), self.weights((outputs, features), outputs), bool(self.rng.integers(2)))
        return self._add(node, (*lead, outputs))

    def add(self, a: str, b: str) -> str:
        return self._add(Add(self._name(), (a, b)), self.shape(a))

    def multiply(self, a: str, b: str) -> str:
        return self._add(Multiply(self._name(), (a, b)), self.shape(a))

    def maximum(self, a: str, b: str) -> str:
        node = Maximum(self._name(), (a, b), bool(self.rng.integers(2)))
        return self._add(node, self.shape(a), self.values[a].affine)

    def lookup(self, a: str, affine: Affine | None = None) -> str:
        tables = self.rng.integers(0, 256, (2, 256)).astype(np.uint8)
        size = self.values[a].size
        split = size // 64 * 64
        spans = tuple(span for span in ((0, split, 0), (split, size, 1)) if span[0] < span[1])
        return self._add(Lookup(self._name(), (a,), "table", tables, spans), self.shape(a), affine)

    def max_pool(self, a: str, kernel: int, stride: int, padding: int) -> str:
        n, c, *size = self.shape(a)
        out = [(s + 2 * padding - kernel) // stride + 1 for s in size]
        rank = len(size)
        node = MaxPool(
            self._name(), (a,), (kernel,) * rank, (stride,) * rank, ((padding, padding),) * rank, (1,) * rank
        )
        return self._add(node, (n, c, *out), self.values[a].affine)

    def reshape(self, a: str, shape: tuple[int, ...]) -> str:
        return self._add(Reshape(self._name(), (a,)), shape, self.values[a].affine)

    def permute(self, a: str, axes: tuple[int, ...]) -> str:
        shape = self.shape(a)
        return self._add(Permute(self._name(), (a,), axes), tuple(shape[i] for i in axes), self.values[a].affine)

    def slice(self, a: str, axis: int, start: int, stop: int, step: int = 1) -> str:
        shape = list(self.shape(a))
        shape[axis] = len(range(start, stop, step))
        return self._add(Slice(self._name(), (a,), axis, start, stop, step), tuple(shape), self.values[a].affine)

    def concatenate(self, parts: list[str], axis: int) -> str:
        shape = list(self.shape(parts[0]))
        shape[axis] = sum(self.shape(part)[axis] for part in parts)
        return self._add(Concatenate(self._name(), tuple(parts), axis), tuple(shape), self.values[parts[0]].affine)

    def network(self, *outputs: str) -> Network:
        return Network(
            self.engine, KERNELS, self.values, tuple(self.nodes), tuple(self.inputs), outputs or (self.nodes[-1].name,)
        )

    def data(self, runs: int = 1) -> Any:
        parts = [
            self.rng.integers(0, 256, (runs * self.shape(name)[0], *self.shape(name)[1:])).astype(np.uint8)
            for name in self.inputs
        ]
        return tuple(parts) if len(parts) > 1 else parts[0]


def compiled(network: Network, machine: Accelerator, *, effort: int) -> Program | str:
    """The network's program, or why it does not fit the machine."""
    try:
        return compile(network, machine, effort=effort)
    except CompileError as error:
        return str(error)
