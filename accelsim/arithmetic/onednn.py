"""Which of oneDNN's int8 convolution kernels a layer gets, as far as its roundings depend on that.

Sources: oneDNN's lists of implementations (`cpu_convolution_list.cpp`, `cpu_deconvolution_list.cpp`) and what the
kernels in them accept (`jit_uni_x8s8s32x_conv_kernel.cpp`, `jit_brgemm_deconv.cpp`, `ref_convolution_int8.cpp`). The
boundaries were found by comparing ties and near-ties with the kernels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from accelsim.errors import ModelError

from .engines import KernelSet

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
