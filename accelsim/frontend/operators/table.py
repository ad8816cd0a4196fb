"""The table from operator names to what builds their nodes, and the operators that need none or cannot have one."""

from __future__ import annotations

from collections.abc import Callable

import torch

from accelsim.frontend.builder import Builder
from accelsim.frontend.calls import Call

Handler = Callable[[Builder, Call], None]

#: Operators on quantised tensors.
OPERATORS: dict[str, Handler] = {}

#: Float operators on dequantised tensors that have a node of their own; False where what they are given has none.
ON_DEQUANTIZED: dict[str, Callable[[Builder, Call], bool]] = {}

#: Operators that only move elements, on quantised and on float tensors alike.
MOVEMENTS: dict[str, Handler] = {}

#: Operators on quantised tensors of which several may depend on the model's inputs; of the others the first may.
TAKE_SEVERAL = frozenset(
    {
        "aten.cat",
        "aten.stack",
        "quantized.add",
        "quantized.add_relu",
        "quantized.cat",
        "quantized.cat_relu",
        "quantized.matmul",
        "quantized.mul",
        "quantized.mul_relu",
    }
)

#: The result is the operand, though perhaps with other strides.
SAME = frozenset(
    {
        "aten.alias",
        "aten.clone",
        "aten.contiguous",
        "aten.detach",
        "aten.dropout",
        "aten.feature_dropout",
        "aten.lift_fresh",
        "aten.positive",
        "quantized.dropout",
    }
)

#: Operators that act on each element alone, though PyTorch does not tag them so.
_ELEMENTWISE = frozenset(
    f"aten.{name}" for name in ("_prelu_kernel", "_to_copy", "hardswish", "log_sigmoid_forward", "prelu", "rsub")
)


def is_elementwise(call: Call) -> bool:
    """Whether a float operator acts on each element alone: between dequantize and quantize it becomes a table."""
    tags = call.function.tags
    if torch.Tag.nondeterministic_seeded in tags:
        return False
    return call.operator.removesuffix("_") in _ELEMENTWISE or torch.Tag.pointwise in tags


#: Operators that can never have a node, and what to do instead.
REFUSED: dict[str, str] = {}

_DYNAMIC = (
    "dynamic quantisation takes the activations' scale from each input at run time, so that it has no fixed integers; "
    "use static quantisation (prepare, calibrate, convert)"
)
UNCONVERTED = "the model was prepared but not converted; pass the result of convert (of convert_fx, convert_pt2e)"

for _name in ("linear", "linear_relu", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d"):
    REFUSED[f"quantized.{_name}_dynamic"] = _DYNAMIC
for _name in ("lstm_cell", "gru_cell", "rnn_relu_cell", "rnn_tanh_cell"):
    REFUSED[f"quantized.quantized_{_name}_dynamic"] = _DYNAMIC
    REFUSED[f"aten.quantized_{_name}"] = _DYNAMIC
REFUSED["aten._int_mm"] = _DYNAMIC  # torchao's int8 activations
for _name in (
    "linear_dynamic_fp16",
    "linear_relu_dynamic_fp16",
    "conv_transpose3d_dynamic",
    "make_quantized_cell_params",
    "make_quantized_cell_params_dynamic",
):
    REFUSED[f"quantized.{_name}"] = _DYNAMIC
for _name in ("quantize_per_tensor_dynamic", "quantized_lstm", "quantized_gru"):
    REFUSED[f"aten.{_name}"] = _DYNAMIC
for _name in ("choose_qparams", "choose_qparams_symmetric", "_choose_qparams_per_token_asymmetric_impl"):
    REFUSED[f"quantized_decomposed.{_name}"] = _DYNAMIC
for _name in ("fake_quantize_per_tensor_affine", "fake_quantize_per_channel_affine"):
    REFUSED[f"aten.{_name}"] = UNCONVERTED
REFUSED["aten._fused_moving_avg_obs_fq_helper"] = UNCONVERTED


def operator(*names: str) -> Callable[[Handler], Handler]:
    """Enter a builder of nodes for operators on quantised tensors."""

    def enter(handler: Handler) -> Handler:
        OPERATORS.update(dict.fromkeys(names, handler))
        return handler

    return enter


def on_dequantized(*names: str) -> Callable[[Callable[[Builder, Call], bool]], Callable[[Builder, Call], bool]]:
    """Enter a builder of nodes for float operators on dequantised tensors; it says whether it made one."""

    def enter(handler: Callable[[Builder, Call], bool]) -> Callable[[Builder, Call], bool]:
        ON_DEQUANTIZED.update(dict.fromkeys(names, handler))
        return handler

    return enter


def movement(*names: str) -> Callable[[Handler], Handler]:
    """Enter a builder of nodes for operators that only move elements."""

    def enter(handler: Handler) -> Handler:
        MOVEMENTS.update(dict.fromkeys(names, handler))
        return handler

    return enter
