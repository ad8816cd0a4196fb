"""The worked example: one output element of a convolution or a linear layer, with all its integers and roundings.

Everything is computed here from the network's own numbers and returned as data; `report.pages` renders it. The steps
are evaluated one by one to be shown, and must end in what the layer's own pipeline (`accelsim.arithmetic`) gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.binary32 import f32, fma
from accelsim.arithmetic.matrix import arithmetic_of
from accelsim.arithmetic.requantize import Requantization
from accelsim.errors import ModelError
from accelsim.network import Convolution, Linear, Network
from accelsim.network.rounding import located, matrix_rounding, output_channels

from .fixed_point import FixedPoint, find_fixed_point
from .terms import Terms, gather

_INT32_END = 2**31


@dataclass(frozen=True)
class Rounding:
    """One step of the pipeline: `formula` with the operands' names, `value` its result.

    `hex` is the binary32 value exactly (C99 notation), empty for an integer.
    """

    formula: str
    value: float | int
    hex: str


@dataclass(frozen=True)
class LayerExample:
    """One output element of one layer.

    `inputs[k]` and `weights[k]` are the codes of the sum's terms (a padded input is `None` and enters as the zero
    point), `places[k]` where each input stands in the layer's input. `exact_sum` is
    `raw_sum - zx * weight_sum - zw * input_sum + K * zx * zw`. `m` is `sx * sw / so` in binary64, to be compared with
    the binary32 constant of the pipeline. `handed_on` is the index k of the term that the layer before computed, in
    the example of the layer after it. `torch_code` is None where PyTorch's value is not known.
    """

    layer: str
    kind: str
    engine: str
    arithmetic: str
    relu: bool
    element: int
    index: tuple[int, ...]
    channel: int
    input_name: str
    input_affine: Affine
    weight_scale: float
    weight_zero_point: int
    output_affine: Affine
    inputs: tuple[int | None, ...]
    weights: tuple[int, ...]
    places: tuple[tuple[int, ...] | None, ...]
    raw_sum: int
    input_sum: int
    weight_sum: int
    exact_sum: int
    bias: float | None
    bias_meaning: str
    m: float
    roundings: tuple[Rounding, ...]
    minimum: int
    maximum: int
    before_clamp: int
    code: int
    real: float
    fixed_point: FixedPoint
    reference_code: int
    torch_code: int | None
    handed_on: int | None = None
    between: tuple[str, ...] = ()


def work_through(
    network: Network,
    layers: Sequence[str],
    element: int,
    codes: dict[str, np.ndarray],
    torch_codes: dict[str, np.ndarray] | None = None,
) -> tuple[LayerExample, ...]:
    """Work through `layers` in order: element `element` (of the flattened output) of the first, and of each next one
    an element that the code just computed goes into, the same index where that is one.

    `codes`: the codes of every value by name (`Network.trace`); `torch_codes` the same by PyTorch, if known. Raises
    ModelError for a layer that there is not, that is no convolution or linear layer, or has no such element.
    """
    examples: list[LayerExample] = []
    for name in layers:
        node = _matrix_node(network, name)
        if not examples:
            examples.append(_example(network, node, element, codes, torch_codes))
            continue
        before = examples[-1]
        between = _path(network, before.layer, node.inputs[0])
        chosen, term = element % network.values[name].size, None
        if between is not None and not any(_mixes(network, step) for step in between):
            chosen, term = _reader(network, node, before.element, chosen)
        example = _example(network, node, chosen, codes, torch_codes)
        examples.append(replace(example, handed_on=term, between=between or ()))
    return tuple(examples)


def _matrix_node(network: Network, name: str) -> Convolution | Linear:
    node = network.node(name)
    if not isinstance(node, Convolution | Linear) or (isinstance(node, Convolution) and node.transposed):
        able = [n.name for n in network.nodes if isinstance(n, Linear | Convolution)]
        raise ModelError(
            f"{name} is a {type(node).__name__}; the worked example is for convolutions and linear layers: "
            f"{', '.join(able) or 'this network has none'}"
        )
    return node


def _path(network: Network, start: str, end: str) -> tuple[str, ...] | None:
    """The nodes between two values along first inputs, None if `start` is not before `end` on that way."""
    producers = {node.name: node for node in network.nodes}
    steps: list[str] = []
    while end != start:
        if end not in producers:
            return None
        steps.append(end)
        end = producers[end].inputs[0]
    return tuple(reversed(steps))


def _mixes(network: Network, name: str) -> bool:
    """Whether a node does more than hand the flat elements on."""
    return type(network.node(name)).__name__ != "Reshape"


def _reader(network: Network, node: Convolution | Linear, source: int, preferred: int) -> tuple[int, int | None]:
    """An output element that reads flat input element `source` (`preferred` if it does), and the term that does."""
    shape = network.values[node.name].shape
    for candidate in (preferred, *range(int(np.prod(shape)))):
        found = gather(network, node, np.unravel_index(candidate, shape)).flat
        if source in found:
            return candidate, found.index(source)
    return preferred, None


def _example(
    network: Network,
    node: Convolution | Linear,
    element: int,
    codes: dict[str, np.ndarray],
    torch_codes: dict[str, np.ndarray] | None,
) -> LayerExample:
    value = network.values[node.name]
    if not 0 <= element < value.size:
        shape = "x".join(map(str, value.shape))
        raise ModelError(
            f"element {element}: {node.name}'s output has {value.size:,} elements ({shape}); give 0 to {value.size - 1}"
        )
    index = tuple(int(i) for i in np.unravel_index(element, value.shape))
    operands = gather(network, node, index)
    channel = operands.channel
    source = network.values[node.inputs[0]].affine
    flat = codes[node.inputs[0]].reshape(-1)
    inputs = tuple(None if place is None else int(flat[place]) for place in operands.flat)
    qx = np.array([source.zero_point if q is None else q for q in inputs], np.int64)
    qw = operands.weights.astype(np.int64)
    zw = int(np.broadcast_to(node.weights.zero_point, output_channels(node))[channel])
    exact = int((qx - source.zero_point) @ (qw - zw))
    rule = channel_rule(matrix_rounding(network, node, folded=False), channel)
    roundings, before_clamp = _roundings(rule, exact)
    code = min(max(before_clamp, rule.minimum), rule.maximum)
    if code != int(rule.apply(np.array([exact], np.int32))[0]):
        raise AssertionError(f"{node.name}: the steps shown do not give what the pipeline gives")
    sw = float(np.broadcast_to(node.weights.scale, output_channels(node))[channel])
    m = source.scale * sw / value.affine.scale
    bias = None if node.weights.bias is None else float(node.weights.bias[channel])
    low, high = _reachable(operands, source, zw)
    with located(node):
        fixed_point = find_fixed_point(rule, low, high, exact)
    owner = arithmetic_of(
        network.engine,
        network.kernels,
        kind="convolution" if isinstance(node, Convolution) else "linear",
        weight_zero_point=node.weights.zero_point,
        groups=node.groups if isinstance(node, Convolution) else 1,
        output_padding=node.output_padding if isinstance(node, Convolution) else (),
        per_channel=node.weights.per_channel,
    )
    return LayerExample(
        layer=node.name,
        kind=type(node).__name__,
        engine=network.engine,
        arithmetic=owner,
        relu=node.relu,
        element=element,
        index=index,
        channel=channel,
        input_name=node.inputs[0],
        input_affine=source,
        weight_scale=sw,
        weight_zero_point=zw,
        output_affine=value.affine,
        inputs=inputs,
        weights=tuple(int(w) for w in qw),
        places=operands.places,
        raw_sum=int(qx @ qw),
        input_sum=int(qx.sum()),
        weight_sum=int(qw.sum()),
        exact_sum=exact,
        bias=bias,
        bias_meaning=_bias_meaning(rule),
        m=m,
        roundings=roundings,
        minimum=rule.minimum,
        maximum=rule.maximum,
        before_clamp=before_clamp,
        code=code,
        real=value.affine.scale * (code - value.affine.zero_point),
        fixed_point=fixed_point,
        reference_code=int(codes[node.name].reshape(-1)[element]),
        torch_code=_code_at(torch_codes, node.name, element),
    )


def _code_at(codes: dict[str, np.ndarray] | None, name: str, element: int) -> int | None:
    """One code, None where PyTorch makes no tensor of this value: it may keep a sum in float for the next operator."""
    found = None if codes is None else codes.get(name)
    return None if found is None else int(found.reshape(-1)[element])


def channel_rule(rule: Requantization, channel: int) -> Requantization:
    """The pipeline of one channel alone: its constants have length 1."""
    names = ("offset", "scale_1", "scale_2", "bias", "bias_factor", "multiplier", "divisor")
    constants: dict[str, Any] = {}
    for name in names:
        value = getattr(rule, name)
        constants[name] = None if value is None else np.broadcast_to(value, max(channel + 1, len(value)))[[channel]]
    return replace(rule, **constants)


def _reachable(operands: Terms, source: Affine, zw: int) -> tuple[int, int]:
    """The smallest and largest exact sum over all codes that the input can hold; padding counts as any input."""
    weights = operands.weights.astype(np.int64) - zw
    ends = np.stack([weights * (source.minimum - source.zero_point), weights * (source.maximum - source.zero_point)])
    return int(ends.min(axis=0).sum()), int(ends.max(axis=0).sum())


def _bias_meaning(rule: Requantization) -> str:
    if rule.offset is not None:
        return "int32: rne(bias / (sx * sw)), added to the sum before the conversion to binary32"
    if rule.bias is None:
        return "none"
    if rule.bias_factor is not None:
        return (
            "binary32, multiplied by f32(1 / (sx * sw)) in the same fused step that adds it; not rounded to an integer"
        )
    if rule.scale_1 is not None:
        return "binary32 in real units, added after the sum has been scaled to real units"
    return "binary32: f32(bias / f32(sx * sw)), in units of the sum but not rounded to an integer"


def _roundings(rule: Requantization, accumulator: int) -> tuple[tuple[Rounding, ...], int]:
    """Every step for one accumulator, and the code before the clamp."""
    steps: list[Rounding] = []

    def step(formula: str, value: np.ndarray) -> np.ndarray:
        number = value.reshape(-1)[0]
        steps.append(Rounding(formula, float(number), binary32_hex(float(number))))
        return value

    total = np.array([accumulator], np.int32)
    if rule.offset is not None:
        total = total + rule.offset
        steps.append(Rounding(f"acc + {int(rule.offset[0])}", int(total[0]), ""))
    x = step("f32(acc)", f32(total))
    for name in ("scale_1", "scale_2"):
        if (constant := getattr(rule, name)) is not None:
            x = step(f"f32(x * {_show(constant)})", x * constant)
    if rule.bias is not None and rule.bias_factor is not None:
        x = step(f"fma({_show(rule.bias)}, {_show(rule.bias_factor)}, x)", fma(rule.bias, rule.bias_factor, x))
    elif rule.bias is not None:
        x = step(f"f32(x + {_show(rule.bias)})", f32(x + rule.bias))
    if rule.multiplier is not None:
        x = step(f"f32(x * {_show(rule.multiplier)})", x * rule.multiplier)
    if rule.divisor is not None:
        x = step(f"f32(x / {_show(rule.divisor)})", x / rule.divisor)
    if rule.zero_point_first:
        x = step(f"f32(x + {rule.zero_point})", x + np.float32(rule.zero_point))
    if rule.indefinite and not abs(x[0]) < _INT32_END:
        code = -_INT32_END
        steps.append(Rounding("rne(x), outside int32", code, ""))
    elif not np.isfinite(x[0]):
        code = _INT32_END - 1 if x[0] > 0 else -_INT32_END
        steps.append(Rounding("rne(x), saturated", code, ""))
    else:
        code = int(np.rint(x[0]))
        steps.append(Rounding("rne(x)", code, ""))
    if not rule.zero_point_first:
        code += rule.zero_point
        steps.append(Rounding(f"+ zero point {rule.zero_point}", code, ""))
    return tuple(steps), code


def binary32_hex(value: float) -> str:
    """The value in C99 hexadecimal notation, without trailing zeros."""
    mantissa, _, exponent = value.hex().partition("p")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}p{exponent}"


def _show(constant: np.ndarray) -> str:
    return str(constant.reshape(-1)[0])
