"""The roundings of oneDNN's int8 kernels, and which of them a convolution gets as far as its roundings depend on that.

Sources: oneDNN's lists of implementations (`cpu_convolution_list.cpp`, `cpu_deconvolution_list.cpp`) and what the
kernels in them accept (`jit_uni_x8s8s32x_conv_kernel.cpp`, `jit_brgemm_deconv.cpp`, `ref_convolution_int8.cpp`). The
boundaries were found by comparing ties and near-ties with the kernels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import ModelError

from .affine import Affine
from .binary32 import Float32, reciprocal
from .engines import KernelSet
from .requantize import Requantization

#: "separate": the accumulator times the input's scale, times the weight's, a multiplication by the output's reciprocal;
#: "joint": times the product of both scales; "reference": as "separate", but a division by the output's scale.
Scaling = Literal["separate", "joint", "reference"]

#: Pixels that the kernel of a transposed convolution may reach beyond its first one.
_NEAR = 4

#: Channels of a group that AVX2's generated kernels take at a time: several groups must be whole blocks.
_BLOCK = 4


@dataclass(frozen=True)
class ConvolutionShape:
    """What decides about the kernel of a convolution: channels of all groups, and a number for each spatial axis."""

    inputs: int
    outputs: int
    groups: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool = False

    @property
    def group(self) -> tuple[int, int]:
        """Input and output channels of one group."""
        return self.inputs // self.groups, self.outputs // self.groups


def pipeline(
    order: Scaling,
    *,
    source: Float32,
    weight: Float32,
    target: Float32,
    output: Affine,
    bias: Float32 | None,
    relu: bool,
    offset: NDArray[np.int32] | None,
) -> Requantization:
    """A kernel that quantises its sum: it adds the bias in real units, and the zero point before the rounding.

    `source`, `weight`, `target`: the scales of input, weights and output as the kernel has them, one a channel. Raises
    ModelError where `check_bias` does, and for an output scale without a reciprocal in binary32.
    """
    check_bias(order, source.astype(np.float64) * weight, bias, output, relu=relu)
    with np.errstate(all="ignore"):
        inverse = reciprocal(target)
        constants: dict[str, Any] = (
            {"scale_1": source * weight} if order == "joint" else {"scale_1": source, "scale_2": weight}
        )
    if order != "reference" and not np.isfinite(inverse).all():
        # A sum of 0 becomes a NaN: the least code with AVX2, the largest with AVX-512.
        raise ModelError(
            f"its output scale {output.scale} has no reciprocal in binary32, and what oneDNN makes of a sum of 0 then "
            "depends on the processor; choose a scale above 2**-128"
        )
    constants |= {"divisor": target} if order == "reference" else {"multiplier": inverse}
    return Requantization(
        output.zero_point,
        max(output.zero_point, output.minimum) if relu else output.minimum,
        output.maximum,
        **constants,
        offset=offset,
        bias=bias,
        zero_point_first=True,
    )


def check_bias(order: Scaling, unit: NDArray[np.float64], bias: Float32 | None, output: Affine, *, relu: bool) -> None:
    """Raises ModelError for the biases and units (of sums, in real numbers) of which the kernels make unlike codes.

    Of infinities and NaN the kernels of AVX2 are known; with ReLU oneDNN's reference multiplies what is below 0 by 0,
    and so makes a NaN of an infinite sum, whose code is not the zero point.
    """
    size = np.zeros(1) if bias is None else np.abs(bias.astype(np.float64))
    if order == "separate" and not np.isfinite(size).all():
        raise ModelError(
            f"its bias holds {size[~np.isfinite(size)][0]}: what oneDNN's AVX-512 kernels make of it is not known; "
            "repair the bias (a finite number for each channel)"
        )
    if order == "reference" and relu and output.zero_point > output.minimum:
        largest = np.max(2.0**31 * unit + size)
        if not largest < np.finfo(np.float32).max:
            raise ModelError(
                f"its sums reach {largest:g} in real numbers, and oneDNN's reference kernel with ReLU gives another "
                "code than the zero point to those that are infinite; repair its bias or choose smaller scales"
            )


def plain_order(kernels: KernelSet) -> Scaling:
    """The order of the scales of a linear layer, and of a convolution of one group."""
    return "joint" if kernels.matrix == "avx2" else "separate"


def scaling(kernels: KernelSet, shape: ConvolutionShape) -> Scaling:
    """The order of the scales of a convolution. Raises ModelError for those that oneDNN itself gets wrong."""
    if shape.transposed:
        _check_transposed(kernels, shape)
    grouped = shape.groups > 1
    depthwise = grouped and shape.group == (1, 1)
    volume = len(shape.kernel) == 3
    blocked = not grouped or depthwise or all(size % _BLOCK == 0 for size in shape.group)
    strided = any(step > 1 for step in shape.stride)
    dilated = any(step > 1 for step in shape.dilation)
    if shape.transposed and strided and dilated:
        return "reference"
    if kernels.matrix == "avx2":
        return "joint" if blocked and not (volume and depthwise) else "reference"
    if not shape.transposed:
        # AVX-512's kernels leave depthwise volumes to AVX2's generator; those with VNNI only the dilated ones.
        return "joint" if depthwise and volume and (dilated or kernels.matrix == "avx512") else "separate"
    if not strided:
        return "reference" if depthwise and volume else "separate"
    # The strided kernel (`brgemm_deconvolution`) wants kernels that the strides divide, the older one whole blocks.
    divided = all(size % step == 0 for size, step in zip(shape.kernel, shape.stride, strict=True))
    return "separate" if divided or (blocked and not (volume and depthwise)) else "reference"


def _check_transposed(kernels: KernelSet, shape: ConvolutionShape) -> None:
    """Refuse what oneDNN's transposed convolutions compute from wrong weights, or by a rule that is not known."""
    inputs, outputs = shape.group
    name = f"a transposed convolution of {shape.inputs} to {shape.outputs} channels in {shape.groups} groups"
    if inputs != outputs and 1 not in (inputs, outputs):
        raise ModelError(
            f"{name}: with the engine onednn PyTorch multiplies by the wrong weights if a group has several inputs and "
            "another number of outputs; use equal numbers or the engine fbgemm or qnnpack"
        )
    reach = [step * (size - 1) for size, step in zip(shape.kernel, shape.dilation, strict=True)]
    # AVX2's generated kernels leave those to the reference whose kernels reach far over the edge; how far depends on
    # registers.
    far_over = kernels.matrix == "avx2" and any(far > _NEAR for far in reach)
    spread = far_over or any(step > far + 1 for step, far in zip(shape.stride, reach, strict=True))
    if spread or any(pad > far for pad, far in zip(shape.padding, reach, strict=True)):
        raise ModelError(
            f"{name}, kernel {shape.kernel}, stride {shape.stride}, padding {shape.padding}: the roundings of "
            "the engine onednn are known for strides up to the kernel's extent, paddings below it and, with AVX2's "
            f"kernels, extents up to {_NEAR + 1}; use the engine fbgemm or qnnpack"
        )
