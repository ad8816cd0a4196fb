"""Numbers for self-tests: codes, and scales with which half of the results lie halfway between two codes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

#: Weights stay within this: no pair of products passes int16, so that sums are exact on processors without VNNI too.
_LARGEST_WEIGHT = 63


@dataclass(frozen=True)
class Draw:
    """One draw of numbers, the same every time. `ties`: scales are powers of two; else any."""

    seed: int
    ties: bool

    @cached_property
    def random(self) -> np.random.Generator:
        """The generator, which goes on with every use."""
        return np.random.default_rng(self.seed)

    def scale(self, around: float) -> float:
        """A scale of about that size, which is a power of two."""
        return around if self.ties else float(np.float32(around * self.random.uniform(0.7, 1.3)))

    def zero_point(self, signed: bool = False) -> int:
        """A zero point; most are odd, so that halves above and below it are rounded in different directions."""
        return int(self.random.integers(1, 120)) | 1 if not signed else int(self.random.integers(-60, 60)) | 1

    def tensor(self, *shape: int, scale: float = 0.25, last: bool = False, signed: bool = False) -> torch.Tensor:
        """A quantised tensor of codes over the whole range; `last`: channels last in memory."""
        limits = np.iinfo(np.int8 if signed else np.uint8)
        codes = self.random.integers(limits.min, limits.max + 1, shape, limits.dtype)
        made = torch._make_per_tensor_quantized_tensor(
            torch.from_numpy(codes), self.scale(scale), self.zero_point(signed)
        )
        return made.contiguous(memory_format=torch.channels_last) if last else made

    def floats(self, *shape: int) -> torch.Tensor:
        """Normal numbers."""
        return torch.from_numpy(self.random.standard_normal(shape).astype(np.float32))

    def weight_codes(self, *shape: int) -> torch.Tensor:
        """The int8 codes of a weight."""
        return torch.from_numpy(self.random.integers(-_LARGEST_WEIGHT, _LARGEST_WEIGHT + 1, shape, np.int8))

    def weight_scales(self, channels: int) -> torch.Tensor:
        """A scale for each output channel, binary32."""
        powers = 2.0 ** self.random.integers(-7, -4, channels)
        return torch.tensor([self.scale(float(power)) for power in powers], dtype=torch.float32)

    def weight(self, *shape: int, per_channel: bool = False) -> torch.Tensor:
        """A quantised weight, its output channels along the first axis."""
        codes = self.weight_codes(*shape)
        if not per_channel:
            return torch._make_per_tensor_quantized_tensor(codes, self.scale(2.0**-5), 0)
        zeros = torch.zeros(shape[0], dtype=torch.int64)
        return torch._make_per_channel_quantized_tensor(codes, self.weight_scales(shape[0]).double(), zeros, 0)

    def bias(self, channels: int) -> torch.Tensor:
        """A bias of some steps of the output."""
        return torch.from_numpy(self.random.normal(0, 8, channels).astype(np.float32))
