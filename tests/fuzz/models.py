"""What a case is: a small model as source text, its inputs, and the values with which it is tried.

A model is kept as text, so that a case that fails is its own report: it can be pasted into `known.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.ao.quantization.fx._decomposed  # registers the operators of torch.export's graphs
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Tensor = torch.Tensor
Q = torch.ops.quantized
DTYPES = {"quint8": torch.quint8, "qint8": torch.qint8}
ENGINES = ("fbgemm", "qnnpack", "x86", "onednn")
#: A graph as torch.export makes one: float operators between `quantized_decomposed` ones.
PT2E = "pt2e"


@contextmanager
def engine_set(engine: str) -> Iterator[None]:
    """PyTorch's quantised engine inside of a `with`: weights are packed for it, and kernels chosen by it."""
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = before if engine == PT2E else engine
    try:
        yield
    finally:
        torch.backends.quantized.engine = before


class NoneEmpty(TorchDispatchMode):  # type: ignore[misc]
    """Inside of a `with` an operator on an empty quantised tensor raises: some of QNNPACK's end the process."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor) and leaf.is_quantized and leaf.numel() == 0:
                raise ValueError(f"{func}: an empty tensor")
        return func(*args, **(kwargs or {}))


# What the text of a model may use beside torch.


def weight(seed: int, shape: Sequence[int], scale: float | Sequence[float], axis: int = 0) -> Tensor:
    """int8 weights; several scales: one for each index of an axis.

    The codes stay within 63: with them no pair of products passes int16, so that the sums are exact on hosts without
    VNNI too.
    """
    raw = torch.from_numpy(np.random.default_rng(seed).integers(-63, 64, tuple(shape), np.int8))
    if isinstance(scale, float):
        return torch._make_per_tensor_quantized_tensor(raw, scale, 0)
    scales = torch.tensor(scale, dtype=torch.double)
    return torch._make_per_channel_quantized_tensor(raw, scales, torch.zeros(len(scale), dtype=torch.long), axis)


def linear(seed: int, inputs: int, outputs: int, scale: float | Sequence[float], bias: Sequence[float] | None) -> Any:
    """Packed parameters of a linear layer."""
    return Q.linear_prepack(weight(seed, (outputs, inputs), scale), None if bias is None else torch.tensor(bias))


def conv(
    seed: int,
    inputs: int,
    outputs: int,
    kernel: Sequence[int],
    scale: float | Sequence[float],
    bias: Sequence[float] | None,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Any:
    """Packed parameters of a convolution."""
    every = [[value] * len(kernel) for value in (stride, padding, dilation)]
    codes = weight(seed, (outputs, inputs // groups, *kernel), scale)
    prepack = getattr(Q, f"conv{len(kernel)}d_prepack")
    return prepack(codes, None if bias is None else torch.tensor(bias), *every, groups)


def transposed(
    seed: int,
    inputs: int,
    outputs: int,
    kernel: Sequence[int],
    scale: float | Sequence[float],
    bias: Sequence[float] | None,
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
) -> Any:
    """Packed parameters of a transposed convolution."""
    stride_, padding_, none, one = ([value] * len(kernel) for value in (stride, padding, 0, 1))
    codes = weight(seed, (inputs, outputs // groups, *kernel), scale, 1)
    prepack = getattr(Q, f"conv_transpose{len(kernel)}d_prepack")
    return prepack(codes, None if bias is None else torch.tensor(bias), stride_, padding_, none, one, groups)


def constant(seed: int, shape: Sequence[int]) -> Tensor:
    """Multiples of a quarter from -2 to 2."""
    return torch.from_numpy(np.random.default_rng(seed).integers(-8, 9, tuple(shape)).astype(np.float32) / 4)


def grid(x: Tensor, scale: float, zero_point: int, dtype: torch.dtype = torch.uint8) -> Tensor:
    """Codes of float values, as a graph of torch.export has them."""
    limits = torch.iinfo(dtype)
    return torch.ops.quantized_decomposed.quantize_per_tensor(x, scale, zero_point, limits.min, limits.max, dtype)


def on_grid(x: Tensor, scale: float, zero_point: int, dtype: torch.dtype = torch.uint8) -> Tensor:
    """The same, dequantised again."""
    limits = torch.iinfo(dtype)
    return torch.ops.quantized_decomposed.dequantize_per_tensor(
        grid(x, scale, zero_point, dtype), scale, zero_point, limits.min, limits.max, dtype
    )


#: The names that the text of a model may use.
NAMES: dict[str, Any] = {
    "Q": Q,
    "F": torch.nn.functional,
    "torch": torch,
    "nn": torch.nn,
    "inf": math.inf,
    "nan": math.nan,
    "linear": linear,
    "conv": conv,
    "transposed": transposed,
    "constant": constant,
    "grid": grid,
    "on_grid": on_grid,
}


@dataclass(frozen=True)
class Input:
    """An input of a model. `dtype`: "quint8", "qint8" or "float".

    `layout`: "contiguous", "channels_last" (of three to five axes), "transposed" (the last two axes in memory), or
    "sliced" (with gaps in memory). A float input is spread over what `scale` and `zero_point` reach.
    """

    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int
    layout: str = "contiguous"

    def value(self, seed: int) -> Tensor:
        """Values that were drawn at random; some seeds give ramps, extremes and few different values."""
        rng = np.random.default_rng(seed)
        low, high = (-128, 127) if self.dtype == "qint8" else (0, 255)
        if self.dtype == "float":
            reals = (self._codes(rng, seed, 0, 255) + rng.choice([0, 0.5, 0.25, 0.499]) - self.zero_point) * self.scale
            return self._laid(torch.from_numpy(reals.astype(np.float32)))
        codes = self._codes(rng, seed, low, high).astype(np.int8 if self.dtype == "qint8" else np.uint8)
        return self._laid(torch._make_per_tensor_quantized_tensor(torch.from_numpy(codes), self.scale, self.zero_point))

    def _codes(self, rng: np.random.Generator, seed: int, low: int, high: int) -> np.ndarray:
        count = math.prod(self.shape)
        match seed % 4:
            case 0:
                return rng.integers(low, high + 1, self.shape)
            case 1:  # each code in its turn
                return (low + (np.arange(count) * 37 + int(rng.integers(256))) % 256).reshape(self.shape)
            case 2:
                return rng.choice([low, high, self.zero_point], self.shape)
            case _:  # near zero
                return np.clip(self.zero_point + rng.integers(-9, 10, self.shape), low, high)

    def _laid(self, tensor: Tensor) -> Tensor:
        if self.layout == "channels_last":
            if tensor.dim() == 3:
                return tensor.transpose(1, 2).contiguous().transpose(1, 2)
            format = torch.channels_last if tensor.dim() == 4 else torch.channels_last_3d
            return tensor.contiguous(memory_format=format)
        if self.layout == "transposed":
            return tensor.transpose(-1, -2).contiguous().transpose(-1, -2)
        if self.layout == "sliced":
            return torch.cat([tensor, tensor], -1)[..., : tensor.shape[-1]]
        return tensor


@dataclass(frozen=True)
class Case:
    """A model of `statements`, which returns `outputs` (names), made of `constants` under `engine`.

    `same`: the model is recorded with one and the same tensor for all of its inputs. `script`: it is traced first.
    """

    engine: str
    inputs: tuple[Input, ...]
    constants: tuple[str, ...]
    statements: tuple[str, ...]
    outputs: tuple[str, ...]
    same: bool = False
    script: bool = False

    @property
    def source(self) -> str:
        """The text of the model."""
        names = ", ".join(f"x{position}" for position in range(len(self.inputs)))
        lines = [*self.constants, f"def model({names}):", *(f"    {line}" for line in self.statements)]
        return "\n".join([*lines, f"    return {', '.join(self.outputs)}", ""])

    @property
    def report(self) -> str:
        """The text of the model, its engine and its inputs."""
        more = f"{', one tensor for all inputs' * self.same}{', traced' * self.script}"
        return f"# {self.engine}{more}\n" + "".join(
            [*(f"# x{position}: {given}\n" for position, given in enumerate(self.inputs)), self.source]
        )

    def model(self) -> Callable[..., Any]:
        """The function. Its weights are packed for the engine that is in force."""
        names = {**NAMES, "__name__": "a random model"}
        exec(compile(self.source, "a model", "exec"), names)
        model = names["model"]
        if self.script:
            model = torch.jit.trace(model, self.values(0), check_trace=False)
        return model

    def values(self, seed: int) -> tuple[Tensor, ...]:
        """A tensor for each input."""
        return tuple(given.value(seed + 4 * 1009 * position) for position, given in enumerate(self.inputs))

    def example(self) -> tuple[Tensor, ...]:
        """What the model is recorded with."""
        values = self.values(0)
        return values[:1] * len(values) if self.same else values
