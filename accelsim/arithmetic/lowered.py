"""The layers of a torch.export graph (PT2E) as its lowering computes them: oneDNN's kernels on plain tensors.

`torch.ops.onednn.qconv2d_pointwise` and `qlinear_pointwise` (ATen `qconv.cpp`, `qlinear.cpp`) hand oneDNN the binary32
scales themselves, where the engine onednn hands it their reciprocals. What Inductor puts between dequantize and
quantize otherwise is binary32 arithmetic as written in the graph (`torch/ao/quantization/fx/_decomposed.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import ModelError

from .affine import Affine
from .binary32 import Float32, f32, fma, inverse
from .elementwise import FloatAdd, Operand
from .engines import KernelSet
from .onednn import ConvolutionShape, pipeline, plain_order, scaling
from .requantize import Requantization


def requantization(
    kernels: KernelSet,
    *,
    input: Affine,
    weight_scale: NDArray[np.float64],
    output: Affine,
    bias: NDArray[np.float32] | None,
    relu: bool,
    channels: int,
    shape: ConvolutionShape | None,
    offset: NDArray[np.int32] | None,
    float_output: bool,
) -> Requantization:
    """The pipeline of one layer; `shape` is a convolution's, None stands for a linear layer.

    `float_output`: the kernel leaves its sum in binary32, because something moves or pools it before it is quantised;
    the zero point is then added to the rounded code. Otherwise the kernel quantises, and adds it before. With the map
    `FLOAT` as output the sum itself is the result; a ReLU is then a step of its own. The other arguments as in
    `matrix.requantization`.
    """

    def full(value: Float32) -> Float32:
        return np.ascontiguousarray(np.broadcast_to(value, channels))

    if bias is not None and not np.isfinite(bias).all():
        raise ModelError(
            f"its bias holds {bias[~np.isfinite(bias)][0]}, of which no one code follows in a torch.export graph; "
            "repair the bias (a finite number for each channel)"
        )
    # Where the kernel leaves binary32 it has a scale of 1, and what follows the sum is not its own.
    result = Affine(1.0, 0, "uint8") if output.is_float else output
    order = plain_order(kernels) if shape is None else scaling(kernels, shape)
    with np.errstate(over="ignore", under="ignore"):
        source, weight, target = (full(f32(scale)) for scale in (input.scale, weight_scale, result.scale))
    rule = pipeline(
        order, source=source, weight=weight, target=target, output=result, bias=bias, relu=relu, offset=offset
    )
    if output.is_float:
        return replace(rule, multiplier=None, divisor=None, zero_point_first=False, binary32=True)
    if not float_output:
        return rule
    with np.errstate(over="ignore", divide="ignore"):
        last = full(inverse(output.scale))
    if not np.isfinite(last).all():
        raise ModelError(f"its output scale {output.scale} has no reciprocal in binary32; choose one above 2**-128")
    return replace(rule, multiplier=last, divisor=None, zero_point_first=False)


@dataclass(frozen=True)
class ResidualSum:
    """A layer's sum and a residual's codes in binary32, requantised as the layer is.

    The residual `f32(code - zero_point)` is multiplied and added in one rounding (`fused`), or in two.
    """

    layer: Requantization
    zero_point: int
    scale: Float32
    fused: bool

    def apply(self, accumulator: NDArray[np.int32], residual: NDArray[np.integer]) -> NDArray[np.int32]:
        """Codes; both operands have the channels last."""
        sums, value = self.layer.real(accumulator), f32(residual.astype(np.int32) - self.zero_point)
        total = fma(value, self.scale, sums) if self.fused else sums + value * self.scale
        return self.layer.rounded(total).astype(np.int32)


def residual_sum(layer: Requantization, residual: Affine, *, scaled: bool) -> ResidualSum:
    """The kernel's binary form. `scaled`: its post-op is `sum`, which scales the residual's codes as it adds them.

    Otherwise the residual comes dequantised: the post-op `add` of a linear layer, or a `sum` in binary32. Generated
    kernels fuse the product and the sum, oneDNN's reference (which divides by the output's scale) does not.
    """
    return ResidualSum(layer, residual.zero_point, f32(residual.scale), scaled and layer.divisor is None)


def add_rule(a: Affine, b: Affine, out: Affine, relu: bool) -> FloatAdd:
    """Two dequantised tensors added in binary32 and quantised, every element alike."""
    minimum = max(out.zero_point, out.minimum) if relu else out.minimum
    last = Requantization(out.zero_point, minimum, out.maximum, multiplier=np.atleast_1d(inverse(out.scale)))
    first, second = (Operand(side.zero_point, f32(side.scale), f32(0)) for side in (a, b))
    return FloatAdd(first, second, last)
