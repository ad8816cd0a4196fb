"""What ATen's float operators compute, in the vector unit's steps: each in the order of ATen's own kernel."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from accelsim.arithmetic.engines import XNNPACK
from accelsim.arithmetic.vector import Operand, Operation, Statistic, Writer
from accelsim.network.vector import EXP_U20

from .builder import Builder, windows
from .calls import Call
from .floats import FloatCall

Handler = Callable[[FloatCall], bool]

OPERATORS: dict[str, Handler] = {}


def compute(builder: Builder, call: Call) -> bool:
    """Build the nodes of a call on float tensors; False where there are none for it.

    None of the engine xnnpack: ExecuTorch leaves such calls to other kernels than XNNPACK's, which were not compared.
    """
    from .operators import MOVEMENTS, SAME

    if builder.engine == XNNPACK:
        return False
    name = call.operator.removesuffix("_")
    if name in OPERATORS:
        return OPERATORS[name](FloatCall(builder, call))
    if name in MOVEMENTS or name in SAME:
        source = FloatCall(builder, call).source(call.tensors[0])
        return isinstance(source, str) and _moved(builder, call, source)
    return False


def _moved(builder: Builder, call: Call, source: str) -> bool:
    from .builder import Floats
    from .operators import MOVEMENTS

    tensor = call.tensors[0]
    before = builder.reference(tensor)
    builder.assign(tensor, Floats(source))
    name = call.operator.removesuffix("_")
    if name in MOVEMENTS:
        MOVEMENTS[name](builder, call)
    else:
        builder.move(call, tensor, [(result, ()) for result in call.results])
    if before is not None:
        builder.assign(tensor, before)
    return True


def operator(*names: str) -> Callable[[Handler], Handler]:
    """Enter the handler of some operators."""

    def enter(handler: Handler) -> Handler:
        OPERATORS.update(dict.fromkeys((f"aten.{name}" for name in names), handler))
        return handler

    return enter


# Element by element


def _unary(name: str, write: Callable[[Writer, Operand], Operand]) -> None:
    OPERATORS[f"aten.{name}"] = lambda call: call.map(call.call.args[:1], write)


def _function(name: str, function: str = "") -> None:
    _unary(name, lambda writer, x: writer.function(function or name, x))


# PyTorch's square root is its vector library's, which need not round correctly.
for _name in ("exp", "log", "tanh", "sigmoid", "erf", "silu", "hardswish", "hardsigmoid", "sqrt", "rsqrt"):
    _function(_name)
_unary("relu", lambda writer, x: writer.step(Operation.MAXIMUM, x, 0.0))
_unary("relu6", lambda writer, x: _between(writer, x, 0.0, 6.0))
_unary("neg", lambda writer, x: writer.step(Operation.MULTIPLY, x, -1.0))
_unary("abs", lambda writer, x: writer.step(Operation.ABSOLUTE, x))
_unary("square", lambda writer, x: writer.step(Operation.MULTIPLY, x, x))
_unary("reciprocal", lambda writer, x: writer.step(Operation.DIVIDE, 1.0, x))


def _between(writer: Writer, x: Operand, low: float, high: float) -> Operand:
    if low > -math.inf:
        x = writer.step(Operation.MAXIMUM, x, low)
    return writer.step(Operation.MINIMUM, x, high) if high < math.inf else x


@operator("hardtanh", "clamp", "clamp_min", "clamp_max")
def _(call: FloatCall) -> bool:
    low, high = ("min_val", "max_val") if "hardtanh" in call.call.operator else ("min", "max")
    ends = [call.argument(low), call.argument(high)]
    if any(end is not None and not isinstance(end, int | float) for end in ends):
        return False
    least, most = (
        default if end is None else float(end) for end, default in zip(ends, (-math.inf, math.inf), strict=True)
    )
    return call.map(call.call.args[:1], lambda writer, x: _between(writer, x, least, most))


@operator("gelu")
def _(call: FloatCall) -> bool:
    name = "gelu_tanh" if call.argument("approximate", "none") == "tanh" else "gelu"
    return call.map(call.call.args[:1], lambda writer, x: writer.function(name, x))


@operator("softplus")
def _(call: FloatCall) -> bool:
    if (call.argument("beta", 1), call.argument("threshold", 20)) != (1, 20):
        return False
    return call.map(call.call.args[:1], lambda writer, x: writer.function("softplus", x))


@operator("leaky_relu")
def _(call: FloatCall) -> bool:
    slope = float(call.argument("negative_slope", 0.01))

    def write(writer: Writer, x: Operand) -> Operand:
        above = writer.step(Operation.LESS, 0.0, x)
        return writer.step(Operation.SELECT, above, x, writer.step(Operation.MULTIPLY, x, float(np.float32(slope))))

    return call.map(call.call.args[:1], write)


@operator("pow")
def _(call: FloatCall) -> bool:
    power = call.call.args[1]
    if power == 2:
        return call.map(call.call.args[:1], lambda writer, x: writer.step(Operation.MULTIPLY, x, x))
    if power == 0.5:
        return call.map(call.call.args[:1], lambda writer, x: writer.function("sqrt", x))
    return False


def _binary(operation: Operation, *names: str) -> None:
    def handler(call: FloatCall) -> bool:
        if call.argument("alpha", 1) != 1 or call.argument("rounding_mode") is not None:
            return False
        return call.map(call.call.args[:2], lambda writer, a, b: writer.step(operation, a, b))

    OPERATORS.update(dict.fromkeys((f"aten.{name}" for name in names), handler))


_binary(Operation.ADD, "add")
_binary(Operation.SUBTRACT, "sub")
_binary(Operation.MULTIPLY, "mul")
_binary(Operation.DIVIDE, "div")
_binary(Operation.MAXIMUM, "maximum")
_binary(Operation.MINIMUM, "minimum")
_binary(Operation.LESS, "lt")


@operator("rsub")
def _(call: FloatCall) -> bool:
    if call.argument("alpha", 1) != 1:
        return False
    return call.map(call.call.args[:2], lambda writer, a, b: writer.step(Operation.SUBTRACT, b, a))


@operator("gt")
def _(call: FloatCall) -> bool:
    return call.map(call.call.args[:2], lambda writer, a, b: writer.step(Operation.LESS, b, a))


@operator("where")
def _(call: FloatCall) -> bool:
    if len(call.call.args) != 3:
        return False
    return call.map(call.call.args, lambda writer, c, a, b: writer.step(Operation.SELECT, c, a, b))


@operator("masked_fill")
def _(call: FloatCall) -> bool:
    x, mask, value = call.call.args[:3]
    return call.map((mask, value, x), lambda writer, m, v, x: writer.step(Operation.SELECT, m, v, x))


@operator("_to_copy", "dequantize")
def _(call: FloatCall) -> bool:
    return call.map(call.call.args[:1], lambda _writer, x: x)


@operator("expand", "repeat")
def _(call: FloatCall) -> bool:
    """Where only axes of one element grow: one more operand of zeros, of which nothing is taken, has the shape."""
    (name,) = [call.source(call.call.tensors[0])]
    if not isinstance(name, str):
        return False
    have, want = call.shape(name), tuple(call.result.shape)
    padded = (1,) * (len(want) - len(have)) + have
    if any(size not in (1, wanted) for size, wanted in zip(padded, want, strict=True)):
        return False
    zeros = call.constant(np.zeros(tuple(w if s == 1 else 1 for s, w in zip(padded, want, strict=True)), np.float32))
    return call.finish("expand", [name, zeros], lambda writer, x, zero: writer.step(Operation.SELECT, 1.0, x, zero))


@operator("cat", "stack")
def _(call: FloatCall) -> bool:
    from accelsim.network import Concatenate

    tensors = call.argument("tensors")
    axis = int(call.argument("dim", 0)) % call.result.dim()
    names = []
    for tensor in tensors:
        source = call.source(tensor)
        if not isinstance(source, str):
            return False
        if not call.builder.value(source).affine.is_float:
            source = call.internal("dequantize", [source], lambda _writer, x: x)
        if call.call.operator == "aten.stack":
            shape = list(call.shape(source))
            shape.insert(axis, 1)
            source = call.reshaped(source, shape)
        names.append(source)
    call.builder.emit_float(call.call, lambda own: Concatenate(own, tuple(names), axis), call.result)
    return True


# Along axes


def _axes(dims: Any, rank: int) -> tuple[int, ...]:
    if dims is None or dims == []:
        return tuple(range(rank))
    return tuple(sorted(axis % rank for axis in ([dims] if isinstance(dims, int) else dims)))


def _rows(call: FloatCall) -> tuple[str, tuple[int, ...], tuple[int, ...]] | None:
    """The value that a call reduces, its shape, and along which axes."""
    source = call.source(call.call.tensors[0])
    if not isinstance(source, str) or not call.shape(source):
        return None
    shape = call.shape(source)
    return source, shape, _axes(call.argument("dim"), len(shape))


def _count(shape: Sequence[int], axes: Sequence[int]) -> float:
    return float(math.prod(shape[axis] for axis in axes))


def _same(_writer: Writer, x: Operand) -> Operand:
    return x


def _statistic(kind: Statistic, *names: str) -> None:
    def handler(call: FloatCall) -> bool:
        rows = _rows(call)
        return rows is not None and call.finish(names[0], [rows[0]], _same, statistic=kind, axes=rows[2])

    OPERATORS.update(dict.fromkeys((f"aten.{name}" for name in names), handler))


_statistic(Statistic.SUM, "sum")
_statistic(Statistic.MAXIMUM, "amax")
_statistic(Statistic.MINIMUM, "amin")


@operator("mean")
def _(call: FloatCall) -> bool:
    rows = _rows(call)
    if rows is None:
        return False
    source, shape, axes = rows
    total = call.internal("sum", [source], _same, statistic=Statistic.SUM, axes=axes)
    count = _count(shape, axes)
    return call.finish("mean", [total], lambda writer, x: writer.step(Operation.DIVIDE, x, count))


@operator("_adaptive_avg_pool2d", "adaptive_avg_pool2d")
def _(call: FloatCall) -> bool:
    source = call.source(call.call.tensors[0])
    if not isinstance(source, str) or tuple(call.result.shape[-2:]) != (1, 1):
        return False
    shape = call.shape(source)
    axes = (len(shape) - 2, len(shape) - 1)
    total = call.internal("sum", [source], _same, statistic=Statistic.SUM, axes=axes)
    count = _count(shape, axes)
    return call.finish("mean", [total], lambda writer, x: writer.step(Operation.DIVIDE, x, count))


@operator("avg_pool2d")
def _(call: FloatCall) -> bool:
    source = call.source(call.call.tensors[0])
    sizes, steps = call.argument("kernel_size"), call.argument("stride")
    plain = not any(call.argument("padding") or ()) and not call.argument("ceil_mode", False)
    if not isinstance(source, str) or not plain or call.argument("divisor_override") is not None:
        return False
    rank = len(call.shape(source))
    sizes = [int(size) for size in (*sizes, *sizes)[:2]]
    steps = [int(step) for step in (*steps, *steps)[:2]] if steps else sizes
    for axis, size, step in zip((rank - 2, rank - 1), sizes, steps, strict=True):
        move = windows(call.shape(source), axis, size, step)
        name = call.builder.unused(call.call, "windows")
        affine = call.builder.value(source).affine
        source = call.builder.internal(move.node(name, (source,)), move.shape, affine)
    total = call.internal("sum", [source], _same, statistic=Statistic.SUM, axes=(rank, rank + 1))
    count = float(math.prod(sizes))
    return call.finish("mean", [total], lambda writer, x: writer.step(Operation.DIVIDE, x, count))


@operator("linalg_vector_norm", "norm")
def _(call: FloatCall) -> bool:
    rows = _rows(call)
    if rows is None or call.argument("ord", call.argument("p", 2)) != 2:
        return False
    source, _, axes = rows
    total = call.internal("squares", [source], _squared, statistic=Statistic.SUM, axes=axes)
    return call.finish("norm", [total], lambda writer, x: writer.function("sqrt", x))


def _squared(writer: Writer, x: Operand) -> Operand:
    return writer.step(Operation.MULTIPLY, x, x)


@operator("_softmax", "softmax", "_safe_softmax")
def _(call: FloatCall) -> bool:
    rows = _rows(call)
    if rows is None:
        return False
    source, _, axes = rows
    return call.finish("softmax", _powers(call, source, axes), _share)


def _share(writer: Writer, power: Operand, total: Operand) -> Operand:
    return writer.step(Operation.DIVIDE, power, total)


def quantized_softmax(builder: Builder, call: Call, name: str, axis: int) -> None:
    """A softmax of codes to codes, which ATen computes in binary32 (`qsoftmax.cpp`): dequantised, then quantised."""
    work = FloatCall(builder, call)
    found = work.node("softmax", _powers(work, name, (axis,)), _share, affine=builder.affine(call, call.results[0]))
    assert found is not None
    builder.emit(call, found[0], call.results[0])


def _powers(call: FloatCall, source: str, axes: Sequence[int], operator: str = "exp") -> tuple[str, str]:
    """exp(x - maximum) of rows, and its sum."""
    most = call.internal("maximum", [source], _same, statistic=Statistic.MAXIMUM, axes=axes)
    powers = call.internal(
        operator, [source, most], lambda writer, x, top: writer.function("exp", writer.step(Operation.SUBTRACT, x, top))
    )
    return powers, call.internal("sum", [powers], _same, statistic=Statistic.SUM, axes=axes)


@operator("_log_softmax", "log_softmax")
def _(call: FloatCall) -> bool:
    rows = _rows(call)
    if rows is None:
        return False
    source, _, axes = rows
    most = call.internal("maximum", [source], _same, statistic=Statistic.MAXIMUM, axes=axes)

    def power(writer: Writer, x: Operand, top: Operand) -> Operand:
        return writer.function("exp", writer.step(Operation.SUBTRACT, x, top))

    total = call.internal("sum", [source, most], power, statistic=Statistic.SUM, axes=axes)

    def last(writer: Writer, x: Operand, top: Operand, total: Operand) -> Operand:
        return writer.step(Operation.SUBTRACT, writer.step(Operation.SUBTRACT, x, top), writer.function("log", total))

    return call.finish("log_softmax", [source, most, total], last)


# Norms


def _moments(call: FloatCall, source: str, axes: Sequence[int], epsilon: float) -> tuple[str, str]:
    """Reciprocal standard deviation of rows, and their mean times less that."""
    count = _count(call.shape(source), axes)
    total = call.internal("sum", [source], _same, statistic=Statistic.SUM, axes=axes)
    mean = call.internal("mean", [total], lambda writer, x: writer.step(Operation.DIVIDE, x, count))

    def deviation(writer: Writer, x: Operand, mean: Operand) -> Operand:
        return _squared(writer, writer.step(Operation.SUBTRACT, x, mean))

    squares = call.internal("squares", [source, mean], deviation, statistic=Statistic.SUM, axes=axes)

    def rate(writer: Writer, squares: Operand) -> Operand:
        variance = writer.step(Operation.DIVIDE, squares, count)
        root = writer.step(Operation.SQUARE_ROOT, writer.step(Operation.ADD, variance, epsilon))
        return writer.step(Operation.DIVIDE, 1.0, root)

    scale = call.internal("rate", [squares], rate)

    def shift(writer: Writer, mean: Operand, scale: Operand) -> Operand:
        return writer.step(Operation.MULTIPLY, writer.step(Operation.MULTIPLY, mean, -1.0), scale)

    return scale, call.internal("shift", [mean, scale], shift)


def _normalised(writer: Writer, x: Operand, scale: Operand, shift: Operand) -> Operand:
    return writer.step(Operation.ADD, writer.step(Operation.MULTIPLY, x, scale), shift)


def _affine(call: FloatCall, name: str, weight: Any, bias: Any, shape: Sequence[int]) -> bool:
    """The result: a value times a weight, plus a bias, where there are such."""
    parts = [None if part is None else call.source(part) for part in (weight, bias)]
    parts = [call.reshaped(part, shape) if isinstance(part, str) else part for part in parts]
    operands: list[str | float] = [name, *(part for part in parts if part is not None)]

    def write(writer: Writer, x: Operand, *rest: Operand) -> Operand:
        left = list(rest)
        if parts[0] is not None:
            x = writer.step(Operation.MULTIPLY, x, left.pop(0))
        return writer.step(Operation.ADD, x, left.pop(0)) if parts[1] is not None else x

    return call.finish("norm", operands, write)


@operator("native_layer_norm")
def _(call: FloatCall) -> bool:
    source = call.source(call.call.tensors[0])
    if not isinstance(source, str):
        return False
    shape, normalised = call.shape(source), call.argument("normalized_shape")
    axes = range(len(shape) - len(normalised), len(shape))
    scale, shift = _moments(call, source, axes, float(np.float32(call.argument("eps"))))
    centred = call.internal("normalised", [source, scale, shift], _normalised)
    return _affine(call, centred, call.argument("weight"), call.argument("bias"), tuple(normalised))


@operator("native_group_norm")
def _(call: FloatCall) -> bool:
    source = call.source(call.call.tensors[0])
    if not isinstance(source, str):
        return False
    images, channels, *rest = call.shape(source)
    groups = int(call.argument("group"))
    grouped = call.reshaped(source, (images, groups, channels // groups * math.prod(rest)))
    scale, shift = _moments(call, grouped, (2,), float(np.float32(call.argument("eps"))))
    centred = call.internal("normalised", [grouped, scale, shift], _normalised)
    centred = call.reshaped(centred, (images, channels, *rest))
    return _affine(call, centred, call.argument("weight"), call.argument("bias"), (channels, *(1 for _ in rest)))


@operator("_native_batch_norm_legit_no_training", "native_batch_norm", "batch_norm")
def _(call: FloatCall) -> bool:
    source = call.source(call.call.tensors[0])
    if not isinstance(source, str) or call.argument("training"):
        return False
    mean, variance = (call.argument(f"running_{name}") for name in ("mean", "var"))
    weight, bias = call.argument("weight"), call.argument("bias")
    if any(item is not None and call.builder.reference(item) is not None for item in (mean, variance, weight, bias)):
        return False
    single = np.float32
    rate = single(1) / np.sqrt(variance.numpy().astype(single) + single(call.argument("eps")))
    scale = rate if weight is None else weight.detach().numpy().astype(single) * rate
    shift = (single(0) if bias is None else bias.detach().numpy().astype(single)) - mean.numpy().astype(single) * scale
    shape = (len(scale), *(1 for _ in call.shape(source)[2:]))
    operands = [source, *(call.constant(np.asarray(part, single).reshape(shape)) for part in (scale, shift))]
    return call.finish("batch_norm", operands, _normalised)


# Products of matrices


def _product(call: FloatCall, a: str, b: str, *, factor: float = 1.0) -> str:
    """a (..., M, K) times b (..., K, N), element by element and summed up: (..., M, N)."""
    from accelsim.network import Permute

    (*lead, rows, length), columns = call.shape(a), call.shape(b)[-1]
    turned = [*range(len(call.shape(b)) - 2), len(call.shape(b)) - 1, len(call.shape(b)) - 2]
    value = call.builder.value(b)
    shape = tuple(value.shape[axis] for axis in turned)
    flipped = call.builder.internal(
        Permute(call.builder.unused(call.call, "transposed"), (b,), tuple(turned)), shape, value.affine
    )
    left = call.reshaped(a, (*lead, rows, 1, length))
    right = call.reshaped(flipped, (*shape[:-2], 1, columns, length))

    def times(writer: Writer, x: Operand, y: Operand) -> Operand:
        return writer.step(Operation.MULTIPLY, x, y)

    total = call.internal("products", [left, right], times, statistic=Statistic.SUM, axes=(-1,))
    total = call.reshaped(total, call.shape(total)[:-1])
    if factor == 1.0:
        return total
    return call.internal("scaled", [total], lambda writer, x: writer.step(Operation.MULTIPLY, x, factor))


@operator("mm", "bmm", "matmul")
def _(call: FloatCall) -> bool:
    a, b = (call.source(operand) for operand in call.call.args[:2])
    if not isinstance(a, str) or not isinstance(b, str) or min(len(call.shape(a)), len(call.shape(b))) < 2:
        return False
    call.as_result(_product(call, a, b))
    return True


@operator("addmm")
def _(call: FloatCall) -> bool:
    bias, a, b = (call.source(operand) for operand in call.call.args[:3])
    if not isinstance(a, str) or not isinstance(b, str) or not isinstance(bias, str):
        return False
    if call.argument("beta", 1) != 1 or call.argument("alpha", 1) != 1:
        return False
    total = _product(call, a, b)
    return call.finish("addmm", [total, bias], lambda writer, x, y: writer.step(Operation.ADD, x, y))


@operator("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_attention_math")
def _(call: FloatCall) -> bool:
    from accelsim.network import Permute

    query, key, value = (call.source(operand) for operand in call.call.args[:3])
    if not (isinstance(query, str) and isinstance(key, str) and isinstance(value, str)):
        return False
    if call.argument("dropout_p", 0.0):
        return False
    depth, length = call.shape(query)[-1], call.shape(query)[-2]
    factor = call.argument("scale")
    factor = 1 / math.sqrt(depth) if factor is None else float(factor)
    shape = call.shape(key)
    axes = (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)
    flipped = call.builder.internal(
        Permute(call.builder.unused(call.call, "transposed"), (key,), axes),
        tuple(shape[axis] for axis in axes),
        call.builder.value(key).affine,
    )
    scores = _product(call, query, flipped, factor=float(np.float32(factor)))
    mask = call.argument("attn_mask")
    if call.argument("is_causal"):
        hidden = np.triu(np.full((length, shape[-2]), -np.inf, np.float32), 1)
        scores = _masked(call, scores, call.constant(hidden))
    elif mask is not None:
        source = call.source(mask)
        if not isinstance(source, str):
            return False
        scores = _masked(call, scores, source)
    fast = EXP_U20 if "flash" in call.call.operator else "exp"
    powers, total = _powers(call, scores, (len(call.shape(scores)) - 1,), fast)
    mixed = _product(call, powers, value)
    return call.finish("attention", [mixed, total], lambda writer, x, total: writer.step(Operation.DIVIDE, x, total))


def _masked(call: FloatCall, scores: str, mask: str) -> str:
    return call.internal("masked", [scores, mask], lambda writer, x, hidden: writer.step(Operation.ADD, x, hidden))
