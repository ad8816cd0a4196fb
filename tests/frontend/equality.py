"""PyTorch as the witness: a model's own codes of every value beside the network's, for models made on the spot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from accelsim.arithmetic.engines import KernelSet
from accelsim.frontend import extract, record_values
from accelsim.network import Network
from accelsim.network.checks import check

Tensor = torch.Tensor
Model = Callable[..., Any]

ENGINES = ("fbgemm", "qnnpack", "x86", "onednn")
DTYPES = {"uint8": torch.quint8, "int8": torch.qint8}


@contextmanager
def engine_set(engine: str) -> Iterator[None]:
    """PyTorch's quantised engine inside of a `with`: packing of weights follows it."""
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = engine
    try:
        yield
    finally:
        torch.backends.quantized.engine = before


def codes(seed: int, shape: tuple[int, ...], dtype: str = "uint8") -> np.ndarray:
    """Uniform codes over the whole range."""
    limits = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(limits.min, limits.max + 1, shape, dtype)


def quantized(array: np.ndarray, scale: float = 0.25, zero_point: int = 7, layout: str = "contiguous") -> Tensor:
    """A quantised tensor of these codes."""
    raw = torch._make_per_tensor_quantized_tensor(torch.from_numpy(array), scale, zero_point)
    if layout == "contiguous":
        return raw
    return raw.contiguous(memory_format=torch.channels_last if array.ndim == 4 else torch.channels_last_3d)


def plain(x: Any) -> Any:
    """Quantised tensors as their codes, for the network."""
    if isinstance(x, tuple):
        return tuple(plain(part) for part in x)
    return x.int_repr().numpy() if x.is_quantized else x.numpy()


def assert_equal_to_pytorch(
    model: Model, x: Any, engine: str, *, lanes: str | KernelSet = "host", batch: int | None = None
) -> Network:
    """Extract `model` on `x` (or its first `batch`), and compare every value that PyTorch makes on all of `x`."""
    parts = x if isinstance(x, tuple) else (x,)
    example = tuple(part[:batch] for part in parts)
    network = extract(model, example, engine=engine, lanes=lanes)
    check(network)
    ours, theirs = network.trace(plain(x)), record_values(model, x, network)
    assert set(network.outputs) <= set(theirs) | set(network.inputs)
    for name, expected in theirs.items():
        different = np.count_nonzero(ours[name] != expected)
        assert ours[name].dtype == expected.dtype, name
        assert ours[name].shape == expected.shape, name
        assert different == 0, f"{name}: {different} of {expected.size} codes differ ({engine}, {network.kernels})"
    return network


def weight(seed: int, shape: tuple[int, ...], channels: int | None = None, axis: int = 0) -> Tensor:
    """A quantised weight, per channel if `channels` is given; its codes stay within 63.

    With them no pair of products passes int16, so that the sums are exact on hosts without VNNI too.
    """
    rng = np.random.default_rng(seed)
    raw = torch.from_numpy(rng.integers(-63, 64, shape, np.int8))
    if channels is None:
        return torch._make_per_tensor_quantized_tensor(raw, 2.0**-5, 0)
    scales = torch.from_numpy(2.0 ** rng.integers(-7, -3, channels).astype(np.float64))
    zeros = torch.zeros(channels, dtype=torch.int64)
    return torch._make_per_channel_quantized_tensor(raw, scales, zeros, axis)


def convolution(
    seed: int,
    inputs: int,
    outputs: int,
    kernel: tuple[int, ...],
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = True,
    relu: bool = False,
    per_channel: bool = False,
    scale: float = 2.0,
    zero_point: int = 9,
    transposed: bool = False,
    output_padding: int = 0,
) -> Model:
    """A convolution as a function, its weights packed for the engine in force."""
    rank = len(kernel)
    shape = (inputs, outputs // groups, *kernel) if transposed else (outputs, inputs // groups, *kernel)
    w = weight(seed, shape, outputs if per_channel else None)
    b = torch.from_numpy(np.random.default_rng(seed + 1).normal(0, 8, outputs).astype(np.float32)) if bias else None
    ops = torch.ops.quantized
    every = lambda value: [value] * rank  # noqa: E731
    if transposed:
        packed = getattr(ops, f"conv_transpose{rank}d_prepack")(
            w, b, every(stride), every(padding), every(output_padding), every(dilation), groups
        )
        function = getattr(ops, f"conv_transpose{rank}d")
    else:
        packed = getattr(ops, f"conv{rank}d_prepack")(w, b, every(stride), every(padding), every(dilation), groups)
        function = getattr(ops, f"conv{rank}d" + ("_relu" if relu else ""))
    return lambda x: function(x, packed, scale, zero_point)


def linear(
    seed: int,
    inputs: int,
    outputs: int,
    *,
    bias: bool = True,
    relu: bool = False,
    per_channel: bool = False,
    scale: float = 2.0,
    zero_point: int = 9,
) -> Model:
    """A linear layer as a function, its weights packed for the engine in force."""
    w = weight(seed, (outputs, inputs), outputs if per_channel else None)
    b = torch.from_numpy(np.random.default_rng(seed + 1).normal(0, 8, outputs).astype(np.float32)) if bias else None
    packed = torch.ops.quantized.linear_prepack(w, b)
    function = torch.ops.quantized.linear_relu if relu else torch.ops.quantized.linear
    return lambda x: function(x, packed, scale, zero_point)
