"""Runs PyTorch's quantised kernels on cases from standard input; the answers go to standard output.

A process of its own, because the environment variables that choose the kernels are read when torch is imported. It
knows nothing of accelsim. Messages are pickles: a list of cases, each (name of a function below, its arguments).
"""

from __future__ import annotations

import pickle
import sys
import warnings
from typing import Any

import numpy as np
import torch
import torch.ao.quantization.fx._decomposed
import torch.nn.functional as F  # noqa: N812

warnings.filterwarnings("ignore")
torch.set_num_threads(1)

Tensor = torch.Tensor
DTYPES = {"uint8": torch.quint8, "int8": torch.qint8}
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def tensor(codes: np.ndarray, affine: tuple[float, int], layout: str = "contiguous") -> Tensor:
    """A quantised tensor of the given codes."""
    raw = torch.from_numpy(np.ascontiguousarray(codes)).contiguous(memory_format=FORMATS[layout])
    # The operator that makes a tensor from codes forgets the layout, so that the codes go through a real quantisation.
    if layout == "contiguous":
        return torch._make_per_tensor_quantized_tensor(raw, affine[0], affine[1])
    empty = torch._empty_affine_quantized(
        raw.shape,
        scale=affine[0],
        zero_point=affine[1],
        dtype=DTYPES[str(codes.dtype)],
        memory_format=torch.channels_last,
    )
    empty.copy_(torch._make_per_tensor_quantized_tensor(raw.contiguous(), affine[0], affine[1]))
    assert np.array_equal(empty.int_repr().numpy(), codes)
    assert empty.is_contiguous(memory_format=torch.channels_last)
    return empty


def codes_of(y: Tensor) -> np.ndarray:
    """The codes, in logical order."""
    return y.int_repr().contiguous().numpy()


def host() -> dict[str, bool]:
    """What the processor offers."""
    capabilities = torch.cpu.get_capabilities()
    return {
        "avx2": capabilities.get("avx2", False),
        "avx512": capabilities.get("avx512_bw", False),
        "vnni": capabilities.get("avx512_vnni", False),
    }


def quantize(x: np.ndarray, affine: tuple[float, int], dtype: str) -> np.ndarray:
    return codes_of(torch.quantize_per_tensor(torch.from_numpy(x), affine[0], affine[1], DTYPES[dtype]))


def dequantize(codes: np.ndarray, affine: tuple[float, int]) -> np.ndarray:
    return tensor(codes, affine).dequantize().numpy()


def add(a: np.ndarray, b: np.ndarray, qa: Any, qb: Any, out: Any, relu: bool = False, threads: int = 1) -> np.ndarray:
    torch.set_num_threads(threads)
    function = torch.ops.quantized.add_relu if relu else torch.ops.quantized.add
    result = codes_of(function(tensor(a, qa), tensor(b, qb), *out))
    torch.set_num_threads(1)
    return result


def multiply(a: np.ndarray, b: np.ndarray, qa: Any, qb: Any, out: Any, relu: bool = False) -> np.ndarray:
    function = torch.ops.quantized.mul_relu if relu else torch.ops.quantized.mul
    return codes_of(function(tensor(a, qa), tensor(b, qb), *out))


def _weight(codes: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, per_channel: bool, axis: int) -> Tensor:
    raw = torch.from_numpy(codes)
    if per_channel:
        return torch._make_per_channel_quantized_tensor(
            raw, torch.from_numpy(scale), torch.from_numpy(zero_point.astype(np.int64)), axis
        )
    return torch._make_per_tensor_quantized_tensor(raw, float(scale[0]), int(zero_point[0]))


def _centred(codes: np.ndarray, zero_point: np.ndarray, axis: int) -> Tensor:
    shape = [1] * codes.ndim
    shape[axis] = -1
    return torch.from_numpy(codes.astype(np.float64) - zero_point.reshape(shape))


def convolution(
    x: np.ndarray,
    qx: Any,
    w: np.ndarray,
    scale: np.ndarray,
    zero_point: np.ndarray,
    per_channel: bool,
    bias: np.ndarray | None,
    out: Any,
    *,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int = 1,
    relu: bool = False,
    transposed: bool = False,
    output_padding: Any = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Codes, and the exact accumulators (a float64 convolution of the centred integers)."""
    dims = x.ndim - 2
    b = None if bias is None else torch.from_numpy(bias)
    weight = _weight(w, scale, zero_point, per_channel, 0)
    ops = torch.ops.quantized
    if transposed:
        output_padding = output_padding or [0] * dims
        prepack = getattr(ops, f"conv_transpose{dims}d_prepack")
        packed = prepack(weight, b, stride, padding, output_padding, dilation, groups)
        y = getattr(ops, f"conv_transpose{dims}d")(tensor(x, qx), packed, *out)
        axis = 1
    else:
        packed = getattr(ops, f"conv{dims}d_prepack")(weight, b, stride, padding, dilation, groups)
        y = getattr(ops, f"conv{dims}d" + ("_relu" if relu else ""))(tensor(x, qx), packed, *out)
        axis = 0
    centred = torch.from_numpy(x.astype(np.float64) - qx[1])
    kernel = _centred(w, zero_point, axis if per_channel else 0)
    if transposed:
        function = getattr(F, f"conv_transpose{dims}d")
        acc = function(centred, kernel, None, stride, padding, output_padding, groups, dilation)
    else:
        acc = getattr(F, f"conv{dims}d")(centred, kernel, None, stride, padding, dilation, groups)
    return codes_of(y), acc.numpy().astype(np.int64)


def linear(
    x: np.ndarray,
    qx: Any,
    w: np.ndarray,
    scale: np.ndarray,
    zero_point: np.ndarray,
    per_channel: bool,
    bias: np.ndarray | None,
    out: Any,
    relu: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    b = None if bias is None else torch.from_numpy(bias)
    packed = torch.ops.quantized.linear_prepack(_weight(w, scale, zero_point, per_channel, 0), b)
    function = torch.ops.quantized.linear_relu if relu else torch.ops.quantized.linear
    y = function(tensor(x, qx), packed, *out)
    acc = (x.astype(np.int64) - qx[1]) @ (w.astype(np.int64) - zero_point.reshape(-1, 1)).T
    return codes_of(y), acc


def pointwise(
    x: np.ndarray,
    qx: Any,
    w: np.ndarray,
    scale: np.ndarray,
    bias: np.ndarray | None,
    out: Any,
    *,
    relu: bool = False,
    residual: tuple[np.ndarray, Any] | None = None,
    float_output: bool = False,
    post_op: str = "sum",
    stride: Any = (1, 1),
    padding: Any = (0, 0),
    dilation: Any = (1, 1),
    groups: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """What PT2E's lowering calls, of plain uint8 tensors: codes, and the exact accumulators.

    A convolution if `x` has four axes, else a linear layer. `residual`: codes and their affine map. `float_output`: the
    kernel's result is quantised by an operator of its own, and the residual dequantised by one.
    """
    (sx, zx), (so, zo) = qx, out
    linear = x.ndim == 2
    tensor, weight = torch.from_numpy(x), torch.from_numpy(w)
    scales, zeros = torch.from_numpy(scale.astype(np.float32)), torch.zeros(len(scale), dtype=torch.int32)
    b = None if bias is None else torch.from_numpy(bias)
    shape = [list(stride), list(padding), list(dilation), groups]
    centred = tensor.double() - zx
    if linear:
        packed = torch.ops.onednn.qlinear_prepack(weight, list(x.shape))
        function, more = torch.ops.onednn.qlinear_pointwise, []
        sums = centred @ weight.double().T
    else:
        tensor = tensor.contiguous(memory_format=torch.channels_last)
        packed = torch.ops.onednn.qconv_prepack(weight, scales, sx, zx, *shape, list(x.shape))
        function, more = torch.ops.onednn.qconv2d_pointwise, shape
        sums = F.conv2d(centred, weight.double(), None, *shape)
    source = (tensor, sx, zx, packed, scales, zeros)
    target = (1.0, 0, torch.float32) if float_output else (so, zo, torch.uint8)
    last = ("relu" if relu else "none", [], "")
    decomposed = torch.ops.quantized_decomposed
    if residual is None:
        y = function(*source, b, *more, *target, *last)
    else:
        other, grid = torch.from_numpy(residual[0].copy()), residual[1]
        if post_op == "add" or float_output:
            other, grid = decomposed.dequantize_per_tensor(other, *grid, 0, 255, torch.uint8), (1.0, 0)
        if linear:
            y = function.binary(*source, other, b, *target, *grid, post_op, 1.0, *last)
        else:
            other = other.contiguous(memory_format=torch.channels_last)
            y = function.binary(*source, other, b, *more, *target, *grid, post_op, 1.0, *last)
    if float_output:
        y = decomposed.quantize_per_tensor(y, so, zo, 0, 255, torch.uint8)
    return y.contiguous().numpy(), sums.numpy().astype(np.int64)


def decomposed_add(a: np.ndarray, b: np.ndarray, qa: Any, qb: Any, out: Any, relu: bool) -> np.ndarray:
    """A sum between PT2E's operators."""
    dequantize = torch.ops.quantized_decomposed.dequantize_per_tensor
    sides = [dequantize(torch.from_numpy(x), *grid, 0, 255, torch.uint8) for x, grid in ((a, qa), (b, qb))]
    y = torch.relu(sides[0] + sides[1]) if relu else sides[0] + sides[1]
    return torch.ops.quantized_decomposed.quantize_per_tensor(y, *out, 0, 255, torch.uint8).numpy()


def average_pool(x: np.ndarray, qx: Any, layout: str, kind: str, arguments: dict[str, Any]) -> np.ndarray:
    q = tensor(x, qx, layout)
    if kind == "window":
        y = getattr(F, f"avg_pool{x.ndim - 2}d")(q, **arguments)
    elif kind == "adaptive":
        y = getattr(F, f"adaptive_avg_pool{x.ndim - 2}d")(q, **arguments)
    else:
        y = q.mean(**arguments)
    return codes_of(y)


def max_pool(x: np.ndarray, qx: Any, layout: str, arguments: dict[str, Any]) -> np.ndarray:
    return codes_of(getattr(F, f"max_pool{x.ndim - 2}d")(tensor(x, qx, layout), **arguments))


def concatenate(parts: list[np.ndarray], grids: list[Any], layout: str, out: Any, relu: bool) -> np.ndarray:
    """Along the channels."""
    function = torch.ops.quantized.cat_relu if relu else torch.ops.quantized.cat
    return codes_of(function([tensor(x, grid, layout) for x, grid in zip(parts, grids, strict=True)], 1, *out))


def unary(x: np.ndarray, qx: Any, operator: str, arguments: tuple[Any, ...], layout: str = "contiguous") -> Any:
    y = UNARY[operator](tensor(x, qx, layout), *arguments)
    return codes_of(y).astype(np.int32), (y.q_scale(), y.q_zero_point())


UNARY: dict[str, Any] = {
    "relu": lambda q: torch.relu(q),
    "relu6": lambda q: torch.ops.quantized.relu6(q),
    "clamp": lambda q, low, high: torch.ops.quantized.clamp(q, low, high),
    "hardtanh": lambda q, low, high: F.hardtanh(q, low, high),
    "threshold": lambda q, threshold, value: torch.ops.quantized.threshold(q, threshold, value),
    "hardswish": lambda q, scale, zero: torch.ops.quantized.hardswish(q, scale, zero),
    "leaky_relu": lambda q, slope, scale, zero: torch.ops.quantized.leaky_relu(q, slope, False, scale, zero),
    "elu": lambda q, alpha, scale, zero: torch.ops.quantized.elu(q, scale, zero, alpha),
    "sigmoid": lambda q, scale, zero: torch.ops.quantized.sigmoid(q, scale, zero),
    "tanh": lambda q: torch.tanh(q),
    "hardsigmoid": lambda q: F.hardsigmoid(q),
    "gelu": lambda q, approximate: F.gelu(q, approximate=approximate),
    "add_scalar": lambda q, c: torch.ops.quantized.add(q, c),
    "add_scalar_relu": lambda q, c: torch.ops.quantized.add_relu(q, c),
    "mul_scalar": lambda q, c: torch.ops.quantized.mul(q, c),
    "mul_scalar_relu": lambda q, c: torch.ops.quantized.mul_relu(q, c),
    "requantize": lambda q, scale, zero, dtype: torch.quantize_per_tensor(q.dequantize(), scale, zero, DTYPES[dtype]),
    "cat": lambda q, scale, zero: torch.ops.quantized.cat([q], 1, scale, zero),
    "cat_relu": lambda q, scale, zero: torch.ops.quantized.cat_relu([q], 1, scale, zero),
}


def interpolate(x: np.ndarray, qx: Any, layout: str, arguments: dict[str, Any]) -> np.ndarray:
    return codes_of(F.interpolate(tensor(x, qx, layout), **arguments))


def batch_norm(x: np.ndarray, qx: Any, layout: str, parameters: Any, epsilon: float, out: Any, relu: bool) -> Any:
    """`parameters`: weight, bias, mean and variance."""
    function = torch.ops.quantized.batch_norm_relu if relu else torch.ops.quantized.batch_norm
    return codes_of(function(tensor(x, qx, layout), *map(torch.from_numpy, parameters), epsilon, *out))


def _optional(values: np.ndarray | None) -> Tensor | None:
    return None if values is None else torch.from_numpy(values)


def layer_norm(x: np.ndarray, qx: Any, weight: Any, bias: Any, epsilon: float, out: Any) -> np.ndarray:
    shape = [x.shape[1]]
    function = torch.ops.quantized.layer_norm
    return codes_of(function(tensor(x, qx), shape, _optional(weight), _optional(bias), epsilon, *out))


def group_norm(
    x: np.ndarray, qx: Any, layout: str, groups: int, weight: Any, bias: Any, epsilon: float, out: Any
) -> np.ndarray:
    """As many groups as channels are an instance norm."""
    arguments = (_optional(weight), _optional(bias), epsilon, *out)
    if groups == x.shape[1]:
        return codes_of(torch.ops.quantized.instance_norm(tensor(x, qx, layout), *arguments))
    return codes_of(torch.ops.quantized.group_norm(tensor(x, qx, layout), groups, *arguments))


def matmul(a: np.ndarray, b: np.ndarray, qa: Any, qb: Any, out: Any) -> np.ndarray:
    return codes_of(torch.ops.quantized.matmul(tensor(a, qa), tensor(b, qb), *out))


def softmax(x: np.ndarray, qx: Any, axis: int, out: Any) -> np.ndarray:
    return codes_of(torch.ops.quantized.softmax(tensor(x, qx), axis, *out))


def prelu(x: np.ndarray, qx: Any, layout: str, weight: np.ndarray, qw: Any, out: Any) -> np.ndarray:
    return codes_of(torch.ops.quantized.prelu(tensor(x, qx, layout), tensor(weight, qw), *out))


def main() -> None:
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    while True:
        try:
            engine, cases = pickle.load(stdin)
        except EOFError:
            return
        answers: list[Any] = []
        if engine in torch.backends.quantized.supported_engines:  # what is lowered has none
            torch.backends.quantized.engine = engine
        for name, arguments, keywords in cases:
            try:
                answers.append(globals()[name](*arguments, **keywords))
            except (RuntimeError, NotImplementedError) as error:
                answers.append(error.__class__(str(error).splitlines()[0]))
        pickle.dump(answers, stdout)
        stdout.flush()


if __name__ == "__main__":
    main()
