"""Convolutions and linear layers: the packed parameters become integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from accelsim.arithmetic.engines import MatrixKernels
from accelsim.arithmetic.matrix import arithmetic_of
from accelsim.arithmetic.onednn import ConvolutionShape
from accelsim.errors import ModelError
from accelsim.frontend.builder import Builder
from accelsim.frontend.calls import Call
from accelsim.frontend.host import matrix_kernels
from accelsim.frontend.packed import packed_for, weights
from accelsim.network import Convolution, Linear, Weights

from .table import operator

#: FBGEMM's direct transposed convolution: channels come in blocks of so many, the kernel has at most so many columns.
_DIRECT_BLOCK, _DIRECT_WIDEST = 8, 6


@operator(
    *(f"quantized.conv{rank}d{relu}" for rank in (1, 2, 3) for relu in ("", "_relu")),
    *(f"quantized.conv_transpose{rank}d" for rank in (1, 2, 3)),
)
def _(builder: Builder, call: Call) -> None:
    source, packed = call.tensors[0], call.args[1]
    rank = source.dim() - 2
    transposed = "transpose" in call.operator
    parameters = _weights(builder, call, packed, f"conv_transpose{rank}d" if transposed else f"conv{rank}d")

    def axes(values: Any) -> tuple[int, ...]:
        # One-dimensional parameters are packed with two, the first of them idle.
        return tuple(int(value) for value in values)[-rank:]

    groups = int(packed.groups())
    output_padding = axes(packed.output_padding()) if transposed else ()
    _check_owner(builder, call, parameters, groups=groups, output_padding=output_padding, transposed=transposed)
    shape = ConvolutionShape(
        inputs=int(source.shape[1]),
        outputs=int(call.results[0].shape[1]),
        groups=groups,
        kernel=tuple(parameters.codes.shape[2:]),
        stride=axes(packed.stride()),
        padding=axes(packed.padding()),
        dilation=axes(packed.dilation()),
        transposed=transposed,
    )
    if leaves_groups(shape, builder.kernels.matrix) and packed_for(call) == "fbgemm":
        raise ModelError(
            f"{builder.where(call)}: FBGEMM's kernel for grouped convolutions whose kernel is 3 along every axis and "
            f"whose padding is 1 takes several groups at a time; where {groups} groups are no multiple of that, it "
            f"gives wrong outputs and overwrites memory; use a multiple of 8 groups, another padding, or the engine "
            f"qnnpack or onednn"
        )
    if _is_direct(shape) and packed_for(call) == "fbgemm":
        raise ModelError(
            f"{builder.where(call)}: FBGEMM's kernel for transposed convolutions whose kernel has two rows and whose "
            f"stride is 2, from and to multiples of 8 channels, gives wrong outputs that depend on what lies in "
            f"memory; use a padding, another kernel or number of channels, or the engine qnnpack or onednn"
        )
    name = builder.codes(call, source)
    builder.emit(
        call,
        lambda own: Convolution(
            own,
            (name,),
            parameters,
            shape.stride,
            tuple((pad, pad) for pad in shape.padding),
            shape.dilation,
            groups,
            call.operator.endswith("_relu"),
            transposed,
            output_padding,
        ),
        call.results[0],
    )


@operator("quantized.linear", "quantized.linear_relu")
def _(builder: Builder, call: Call) -> None:
    source, packed = call.tensors[0], call.args[1]
    parameters = _weights(builder, call, packed, "linear")
    _check_owner(builder, call, parameters)
    name, relu = builder.codes(call, source), call.operator.endswith("_relu")
    builder.emit(call, lambda own: Linear(own, (name,), parameters, relu), call.results[0])


def leaves_groups(shape: ConvolutionShape, matrix: MatrixKernels) -> bool:
    """Whether FBGEMM takes its groupwise kernel (`fbgemmOptimizedGConv`) for a number of groups that it gets wrong."""
    inner, outer = shape.group
    at_once = (32 if matrix == "avx2" else 64) // outer // max(inner, 4)
    return (
        len(shape.kernel) > 1
        and not shape.transposed
        and inner == outer
        and inner in (2, 4, 8, 16)
        and shape.groups >= max(at_once, 1)
        and shape.groups % max(at_once, 1) != 0
        and all(size == 3 for size in shape.kernel)
        and all(pad == 1 for pad in shape.padding)
        and all(step == 1 for step in shape.dilation)
        and shape.stride[-2:] in ((1, 1), (2, 2))
    )


def _is_direct(shape: ConvolutionShape) -> bool:
    """Whether FBGEMM takes its direct kernel: found by comparing over kernels, strides, paddings and channels."""
    return (
        shape.transposed
        and len(shape.kernel) == 2
        and shape.groups == 1
        and shape.inputs % _DIRECT_BLOCK == shape.outputs % _DIRECT_BLOCK == 0
        and shape.kernel[0] == shape.stride[0] == 2
        and shape.kernel[1] <= _DIRECT_WIDEST
        and shape.stride[1] <= 2
        and not any(shape.padding)
        and all(step == 1 for step in shape.dilation)
    )


def _weights(builder: Builder, call: Call, packed: Any, kind: str) -> Weights:
    try:
        tensor, bias = getattr(torch.ops.quantized, f"{kind}_unpack")(packed)
    except RuntimeError as error:  # QNNPACK's parameters of three axes cannot be unpacked
        reason = str(error).partition("\n")[0]
        raise ModelError(
            f"{builder.where(call)}: PyTorch does not give back the weights of {call.operator} ({reason}); convert the "
            f"model for the engine fbgemm, x86 or onednn"
        ) from error
    return weights(builder.where(call), tensor, bias, builder.keys.get(hash(packed), ""))


def _check_owner(builder: Builder, call: Call, parameters: Weights, **shape: Any) -> None:
    """Raises ModelError where the weights were packed for other kernels than the engine's.

    Not for x86 under another kernel set than the host's, whose choice PyTorch cannot make here.
    """
    owner = packed_for(call)
    if owner is None or (builder.engine == "x86" and builder.kernels.matrix != matrix_kernels("x86")):
        return
    expected = arithmetic_of(
        builder.engine,
        builder.kernels,
        kind="linear" if "linear" in call.operator else "convolution",
        weight_zero_point=np.asarray(parameters.zero_point),
        per_channel=parameters.per_channel,
        **shape,
    )
    if owner != expected:
        raise ModelError(
            f"{builder.where(call)}: its weights were packed for {owner}'s kernels, but the engine {builder.engine} "
            f"takes {expected}'s. PyTorch packs them when a model is converted, loaded or frozen: do that again after "
            f"`torch.backends.quantized.engine = {builder.engine!r}` (on the command line: --engine {builder.engine}). "
            f"If {owner}'s arithmetic is meant, extract with engine={owner!r}"
        )
