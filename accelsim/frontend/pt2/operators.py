"""The operators that are run for a .pt2 file: a list of those that compute tensors from tensors, and nothing else.

PyTorch has operators that read files (`aten.from_file`), leave bounds unchecked (`aten._index_put_impl_`,
`aten._sparse_coo_tensor_unsafe`) or hand out memory that nobody wrote (`aten.empty`). So a file cannot name any that it
likes: one that is missing here is refused by name.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any

import torch

import accelsim.frontend.decomposed  # noqa: F401  # makes the operators `quantized_decomposed`
from accelsim.errors import FormatError, ModelError
from accelsim.frontend.operators import MOVEMENTS, ON_DEQUANTIZED, OPERATORS, SAME
from accelsim.reading import shown

_PREFIX = "torch.ops."

#: Resizing by more than 2 to this power has no use; a position of 2^40 times it stays below 2^63.
_FACTOR = 16

#: What the frontend knows by name; what PyTorch computes each element alone of is known by its tag.
_KNOWN = frozenset({*MOVEMENTS, *SAME, *ON_DEQUANTIZED, *(name for name in OPERATORS if name.startswith("aten."))})

#: Operators that PyTorch takes apart into those, or that are named where they have no node.
_MORE = frozenset(
    f"aten.{name}"
    for name in (
        "_adaptive_avg_pool2d",
        "_assert_tensor_metadata",
        "_log_softmax",
        "_softmax",
        "_to_copy",
        "_unsafe_view",
        "adaptive_avg_pool1d",
        "adaptive_max_pool2d",
        "addmm",
        "amax",
        "amin",
        "argmax",
        "avg_pool1d",
        "baddbmm",
        "batch_norm",
        "bmm",
        "conv1d",
        "conv2d",
        "conv3d",
        "conv_transpose1d",
        "conv_transpose2d",
        "convolution",
        "embedding",
        "flatten",
        "group_norm",
        "instance_norm",
        "layer_norm",
        "linear",
        "log_softmax",
        "matmul",
        "max_pool2d_with_indices",
        "mm",
        "movedim",
        "narrow",
        "native_layer_norm",
        "pad",
        "reshape",
        "rms_norm",
        "softmax",
        "sum",
        "swapaxes",
        "unflatten",
        "upsample_nearest2d",
        "upsample_bilinear2d",
        "var",
        "view_as",
    )
)
#: Takes whatever strides it is given, past the end of its operand too.
_UNCHECKED = frozenset({"aten._reshape_alias"})

_DECOMPOSED = frozenset(
    f"quantized_decomposed.{name}"
    for name in (
        "quantize_per_tensor",
        "dequantize_per_tensor",
        "quantize_per_channel",
        "dequantize_per_channel",
        "choose_qparams",
        "choose_qparams_symmetric",
    )
)

#: Arithmetic of sizes.
_SIZES: dict[str, Callable[..., int]] = {
    f"_operator.{name}": getattr(operator, name) for name in ("add", "floordiv", "mod", "mul", "neg", "sub")
}
_SYM_SIZE = "torch.ops.aten.sym_size.int"


def of_sizes(target: str) -> Callable[..., int] | None:
    """What computes a size from sizes, or from a tensor; None for operators of tensors."""
    return _SIZES.get(target) if target != _SYM_SIZE else _size


def _size(tensor: torch.Tensor, axis: int) -> int:
    return int(tensor.shape[axis])


def check_arguments(where: str, operator: Any, values: Iterable[Any]) -> None:
    """Raises FormatError for arguments for which a kernel computes addresses without checking them.

    The kernels of `upsample` make integers of a position divided by a factor; past 2^63 these are negative.
    """
    if "upsample" not in operator.__name__:
        return
    for value in values:
        for factor in value if isinstance(value, list) else [value]:
            if isinstance(factor, float) and not 2**-_FACTOR <= factor <= 2**_FACTOR:
                raise FormatError(f"{where}: resizes by a factor of {factor}; 2^-{_FACTOR} to 2^{_FACTOR} are run")


def find(where: str, target: str) -> Any:
    """The operator that a file names. Raises ModelError for one that is not run, FormatError for none."""
    namespace, _, rest = target.removeprefix(_PREFIX).partition(".")
    name, _, overload = rest.partition(".")
    known, refusal = f"{namespace}.{name}", "; give the model as module:callable, where PyTorch runs it"
    if not target.startswith(_PREFIX) or namespace not in ("aten", "quantized_decomposed"):
        raise ModelError(f"{where}: {shown(target)} is no operator of PyTorch on tensors, and is not run{refusal}")
    found = getattr(getattr(getattr(torch.ops, namespace), name, None), overload or "default", None)
    if not isinstance(found, torch._ops.OpOverload):
        raise FormatError(f"{where}: this PyTorch ({torch.__version__}) has no such operator; save the model with it")
    plain = f"{namespace}.{name.removesuffix('_')}"
    listed = plain in (_KNOWN - _UNCHECKED) | _MORE | _DECOMPOSED or (
        torch.Tag.pointwise in found.tags and not name.startswith("_")
    )
    by_chance = torch.Tag.nondeterministic_seeded in found.tags and plain not in SAME  # dropout, of evaluation too
    if not listed or by_chance or any(argument.is_out for argument in found._schema.arguments):
        raise ModelError(f"{where}: {known} is not among the operators that are run for a file{refusal}")
    return found
