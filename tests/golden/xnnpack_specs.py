"""Single 8-bit operators of XNNPACK as plain data, and the networks of one node that stand for them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from accelsim.arithmetic import xnnpack as rules
from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.engines import KernelSet
from accelsim.network import Add, Convolution, Linear, Lookup, MaxPool, Multiply, Network, Node, Value, Weights

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Spec:
    """`inputs`: shape and map of each. `attributes`: what the operator takes else; `arrays`: weight, scale, bias."""

    operator: str
    inputs: tuple[tuple[Shape, Affine], ...]
    output: Affine
    attributes: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def random_inputs(self, random: np.random.Generator) -> list[np.ndarray]:
        """Codes: all 256 of one row of so many, all pairs of two rows of 65,536."""
        every, shapes = np.arange(-128, 128).astype(np.int8), [shape for shape, _ in self.inputs]
        if shapes == [(1, 256)]:
            return [every[None]]
        if shapes == [(1, 65536)] * 2:
            return [np.repeat(every, 256)[None], np.tile(every, 256)[None]]
        return [random.integers(-128, 128, shape).astype(np.int8) for shape, _ in self.inputs]


def map_of(scale: float, zero: int) -> Affine:
    return Affine(scale, zero, "int8")


def scales(random: np.random.Generator, style: str, factor: float = 1.0) -> tuple[float, float, float]:
    """Two scales and an output's. `ties`: powers of two, many results are halves. `near`: the output's scale is some
    ulps beside twice the product. `random`: whatever calibration gives."""
    if style == "ties":
        a, b = 2.0 ** float(random.integers(-6, -2)), 2.0 ** float(random.integers(-6, -2))
        return a, b, a * b * 2.0 ** float(random.integers(1, 4)) * factor
    a, b = (float(np.float32(random.uniform(0.01, 0.1))) for _ in range(2))
    out = a * b * 2 * factor if style == "near" else a * b * random.uniform(3, 40) * factor
    single = np.float32(out)
    for _ in range(int(random.integers(0, 3)) if style == "near" else 0):
        single = np.nextafter(single, np.float32(np.inf))
    return a, b, float(single)


_CONVOLUTIONS: tuple[dict[str, Any], ...] = (
    {"x": (2, 5, 9, 8), "w": (7, 5, 3, 3), "padding": (1, 1)},
    {"x": (1, 16, 6, 6), "w": (20, 16, 1, 1), "relu": True},
    {"x": (1, 6, 11, 10), "w": (6, 1, 3, 3), "groups": 6, "stride": (2, 2), "padding": (1, 1), "clamp": (0.0, 1.5)},
    {"x": (1, 6, 9, 9), "w": (12, 1, 5, 5), "groups": 6, "padding": (2, 2)},
    {"x": (1, 8, 9, 9), "w": (12, 4, 3, 3), "groups": 2, "dilation": (2, 2), "padding": (2, 2), "relu": True},
    {"x": (1, 5, 21), "w": (6, 5, 4), "stride": (2,), "padding": (1,)},
)
_TRANSPOSED: tuple[dict[str, Any], ...] = (
    {"x": (2, 6, 5, 6), "w": (6, 4, 3, 3), "stride": (2, 2), "padding": (1, 1), "output_padding": (1, 1), "groups": 1},
    {"x": (1, 6, 5, 6), "w": (6, 4, 2, 2), "stride": (2, 2), "groups": 2, "relu": True},
)
_LINEARS: tuple[dict[str, Any], ...] = (
    {"x": (6, 40), "w": (33, 40)},
    {"x": (2, 3, 24), "w": (17, 24), "relu": True},
    {"x": (5, 64), "w": (10, 64), "clamp": (-0.75, 0.5)},
)


def _layer(random: np.random.Generator, operator: str, form: dict[str, Any], style: str, per_channel: bool) -> Spec:
    shape, outputs = form["w"], form["w"][0]
    terms = math.prod(shape[1:])
    if form in _TRANSPOSED:
        outputs = shape[1] * form["groups"]
    source, weight, out = scales(random, style, 1.0 if style != "random" else math.sqrt(terms) * 4)
    limit = max(4, min(127, 2000 // terms)) if style != "random" else 127
    weight_scales = np.full(outputs if per_channel else 1, weight)
    if per_channel:
        weight_scales = weight_scales * (2.0 ** random.integers(-1, 2, outputs) if style == "ties" else 1.0)
        if style == "random":
            weight_scales = np.float32(random.uniform(0.5, 2, outputs) * weight).astype(np.float64)
    attributes = {name: value for name, value in form.items() if name not in "xw"}
    arrays = {"weight": random.integers(-limit, limit + 1, shape).astype(np.int8), "scale": weight_scales}
    if random.integers(4):
        steps = random.integers(-300, 300, outputs) / (2.0 if style == "ties" else 1.0)
        arrays["bias"] = (steps * source * weight_scales).astype(np.float32)
    zero = int(random.integers(-128, 128)) if not form.get("relu") else int(random.integers(-128, -90))
    attributes["per_channel"] = per_channel
    if form in _TRANSPOSED:
        attributes["transposed"] = True
    source_map = map_of(source, int(random.integers(-40, 40)))
    return Spec(operator, ((form["x"], source_map),), map_of(out, zero), attributes, arrays)


def _pairs(random: np.random.Generator, style: str, operator: str, *, relu: bool = False, most: int = 4096) -> Spec:
    if operator == "mul":
        a, b, out = scales(random, style)
    elif style == "ties":
        a, b = 2.0 ** float(random.integers(-6, -3)), 2.0 ** float(random.integers(-6, -3))
        out = max(a, b) * 2.0 ** float(random.integers(0, 3))
    else:
        a, b, out = (float(np.float32(random.uniform(0.02, 0.2))) for _ in range(3))
    zeros = [int(zero) for zero in random.integers(-128, 128, 3)]
    maps = [map_of(scale, zero) for scale, zero in zip((a, b, out), zeros, strict=True)]
    row = (1, 65536 if style == "ties" else most)
    return Spec(operator, ((row, maps[0]), (row, maps[1])), maps[2], {"relu": True} if relu else {})


def specs(random: np.random.Generator, pairs: int = 4096) -> Iterator[Spec]:
    """Every operator, with scales that make ties and with those that do not; there are `pairs` of codes."""
    for style in ("ties", "near", "random"):
        for per_channel in (True, False):
            for form in _CONVOLUTIONS:
                yield _layer(random, "conv", form, style, per_channel)
            for form in _LINEARS:
                yield _layer(random, "linear", form, style, per_channel)
        for operator, relu in (("add", False), ("add", True), ("sub", False), ("mul", False)):
            yield _pairs(random, style, operator, relu=relu, most=pairs)
        yield from _broadcast(random, style)
        yield from _means(random, style)
        yield from _unary(random, style)
    grid = map_of(0.05, 3)
    pool = {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1)}
    yield Spec("max_pool", (((2, 5, 9, 8), grid),), grid, pool)
    yield Spec("max_pool", (((1, 3, 8, 8), grid),), grid, {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0)})
    for style in ("ties", "random"):
        for operator in ("sigmoid", "tanh"):
            yield _polynomial(random, style, operator)
        for form in _TRANSPOSED:
            yield _layer(random, "conv", form, style, form["groups"] == 1)


def _polynomial(random: np.random.Generator, style: str, operator: str) -> Spec:
    """With scales that bring no value so near to the middle between two codes that the last bits of it decide."""
    while True:
        scale = 2.0**-4 if style == "ties" else float(np.float32(random.uniform(0.02, 0.08)))
        out = 2.0**-8 if style == "ties" else float(np.float32(random.uniform(0.004, 0.01)))
        source, target = map_of(scale, int(random.integers(-60, 60))), map_of(out, int(random.integers(-128, 60)))
        spec = Spec(operator, (((1, 256), source),), target)
        if not _values(spec, source)[1]:
            return spec


def _values(spec: Spec, source: Affine) -> tuple[np.ndarray, list[int]]:
    function = {"sigmoid": rules.sigmoid, "tanh": rules.tanh}[spec.operator]
    return rules.table_within(function(rules.dequantized(source)), rules.POLYNOMIAL, source, spec.output)


def _broadcast(random: np.random.Generator, style: str) -> Iterator[Spec]:
    """What a squeeze-and-excitation block multiplies."""
    pair = _pairs(random, style, "mul")
    yield Spec("mul", (((1, 7, 1, 1), pair.inputs[0][1]), ((1, 7, 9, 5), pair.inputs[1][1])), pair.output)


def _means(random: np.random.Generator, style: str) -> Iterator[Spec]:
    for shape in ((2, 9, 4, 4), (1, 20, 7, 7), (1, 5, 3, 5), (1, 33, 2, 2)):
        scale, _, other = scales(random, style)
        source = map_of(scale, int(random.integers(-128, 128)))
        yield Spec("mean", ((shape, source),), source)
        target = map_of(scale / 2 if style == "ties" else other, int(random.integers(-128, 128)))
        yield Spec("mean", ((shape, source),), target)


def _unary(random: np.random.Generator, style: str) -> Iterator[Spec]:
    row = (1, 256)
    for operator, attributes in (
        ("relu", {}),
        ("hardtanh", {"low": 0.0, "high": 6.0}),
        ("hardtanh", {"low": -1.03, "high": 0.72}),
        ("hardswish", {}),
        ("leaky_relu", {"slope": 0.01}),
        ("leaky_relu", {"slope": 0.125}),
        ("requantize", {}),
    ):
        scale = 2.0**-4 if style == "ties" else float(np.float32(random.uniform(0.02, 0.08)))
        source = map_of(scale, int(random.integers(-60, 60)))
        other = scale * (2 if style == "ties" else 1 if style == "near" else random.uniform(0.4, 2.5))
        target = map_of(float(np.float32(other)), int(random.integers(-100, 60)))
        yield Spec(operator, ((row, source),), target, attributes)
        if operator in ("relu", "hardtanh"):
            yield Spec(operator, ((row, source),), source, attributes)


KERNELS = KernelSet("uniform", "vnni")


def network(spec: Spec, shape: Shape) -> Network:
    """A network of the operator alone; `shape` is the output's."""
    names = tuple("ab"[: len(spec.inputs)])
    values = {
        name: Value(name, given, grid, tuple(range(len(given))))
        for name, (given, grid) in zip(names, spec.inputs, strict=True)
    }
    values["out"] = Value("out", shape, spec.output, tuple(range(len(shape))))
    nodes: list[Node] = [_node(spec, names, shape)]
    clamp = spec.attributes.get("clamp")
    if clamp is not None:
        (inner,) = nodes
        values["sums"] = Value("sums", shape, spec.output, tuple(range(len(shape))))
        codes = rules.every_code(spec.output)
        low, high = (rules.code_of_limit(end, spec.output) for end in clamp)
        table = np.clip(codes, low, high).astype(np.int8).view(np.uint8)[None]
        nodes = [replace(inner, name="sums"), Lookup("out", ("sums",), "clamp", table, ((0, math.prod(shape), 0),))]
    return Network("xnnpack", KERNELS, values, tuple(nodes), names, ("out",))


def _node(spec: Spec, names: tuple[str, ...], shape: Shape) -> Node:
    given, source = spec.inputs[0]
    attributes = spec.attributes
    match spec.operator:
        case "conv" | "linear":
            weights = Weights(
                spec.arrays["weight"],
                spec.arrays["scale"],
                np.zeros(len(spec.arrays["scale"]), np.int32),
                attributes["per_channel"],
                spec.arrays.get("bias"),
            )
            relu = attributes.get("relu", False)
            if spec.operator == "linear":
                return Linear("out", names, weights, relu)
            ones = (1,) * (len(given) - 2)
            pads = tuple((pad, pad) for pad in attributes.get("padding", (0,) * len(ones)))
            stride, dilation = (tuple(attributes.get(name, ones)) for name in ("stride", "dilation"))
            groups, extra = attributes.get("groups", 1), tuple(attributes.get("output_padding", ones[:0]))
            transposed = attributes.get("transposed", False)
            extra = extra or (0,) * len(ones) if transposed else ()
            return Convolution("out", names, weights, stride, pads, dilation, groups, relu, transposed, extra)
        case "add" | "sub":
            return Add("out", names, attributes.get("relu", False), subtract=spec.operator == "sub")
        case "mul":
            return Multiply("out", names)
        case "mean":
            sizes = given[2:]
            weights = Weights(
                np.ones((given[1], 1, *sizes), np.int8),
                np.array([1 / math.prod(sizes)]),
                np.zeros(1, np.int32),
                False,
                None,
            )
            return Convolution("out", names, weights, (1, 1), ((0, 0), (0, 0)), (1, 1), given[1], mean=True)
        case "max_pool":
            pads = tuple((pad, pad) for pad in attributes["padding"])
            return MaxPool("out", names, tuple(attributes["kernel"]), tuple(attributes["stride"]), pads, (1, 1))
    return Lookup("out", names, spec.operator, _table(spec, source), ((0, math.prod(shape), 0),))


def _table(spec: Spec, source: Affine) -> np.ndarray:
    values, attributes = rules.dequantized(source), spec.attributes
    match spec.operator:
        case "relu":
            return rules.clamp_table(0, math.inf, source, spec.output)
        case "hardtanh":
            return rules.clamp_table(attributes["low"], attributes["high"], source, spec.output)
        case "hardswish":
            return rules.table(rules.hardswish(values), spec.output)
        case "leaky_relu":
            return rules.table(rules.leaky_relu(values, attributes["slope"]), spec.output)
        case "requantize":
            return rules.table(values, spec.output)
        case "sigmoid" | "tanh":
            return _values(spec, source)[0]
    raise AssertionError(spec.operator)
