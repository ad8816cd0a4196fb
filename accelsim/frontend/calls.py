"""What a recording holds: operator calls, the tensors between them, and what came out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

#: How the operators of quantised torch.export graphs begin.
QUANTIZE, DEQUANTIZE = "quantized_decomposed.quantize_per_", "quantized_decomposed.dequantize_per_"


@dataclass(frozen=True)
class Call:
    """One operator call. `scope` is the path of the module that made it, "" for the model itself.

    Its tensors are snapshots (see `versions`). `leaf`: the module has no parts of its own, so that its path names the
    operator. `codes`: the integers of each quantised result tensor at that moment, if they were asked for. `constants`:
    a checksum for each tensor that went in, None for those that depend on the model's inputs. `depends`: one of them
    does.
    """

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    scope: str
    leaf: bool
    codes: tuple[np.ndarray | None, ...] = ()
    constants: tuple[int | None, ...] = ()
    depends: bool = False

    @property
    def operator(self) -> str:
        """Such as "quantized.conv2d_relu", without the overload."""
        return str(self.function._schema.name).replace("::", ".")

    @property
    def tensors(self) -> list[torch.Tensor]:
        """The tensors that go in, those inside of lists too."""
        return tensors_in((self.args, self.kwargs))

    @property
    def results(self) -> list[torch.Tensor]:
        """The tensors that come out."""
        return tensors_in(self.result)

    def argument(self, name: str, default: Any = None) -> Any:
        """The argument of that name in the operator's schema, or its default."""
        for position, argument in enumerate(self.function._schema.arguments):
            if argument.name == name:
                if position < len(self.args):
                    return self.args[position]
                declared = argument.default_value if argument.has_default_value() else default
                return self.kwargs.get(name, declared)
        return default


@dataclass(frozen=True)
class Escape:
    """The first place where elements that depend on the model's inputs became numbers outside of PyTorch's operators.

    `position`: of the call, or of the one after it; `scope`, `what`: which module, and what it called.
    """

    position: int
    scope: str
    what: str


@dataclass(frozen=True)
class Returned:
    """An output of the model as its caller gets it: real numbers, or codes, and then their map where they have one."""

    elements: np.ndarray
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True)
class Recording:
    """The calls of one run in order; `inputs` and `outputs` are snapshots of the tensors that went in and came out.

    `returned`: the content of the outputs at the end of the run, if it was asked for. `dependent`: the identities of
    the snapshots that depend on the inputs. `overwritten`: those that were written through another tensor, and by which
    call (None: by no operator). `escape`: see there.
    """

    calls: tuple[Call, ...]
    inputs: tuple[torch.Tensor, ...]
    input_names: tuple[str, ...]
    outputs: tuple[Any, ...]
    returned: tuple[Returned | None, ...] = ()
    dependent: frozenset[int] = frozenset()
    overwritten: dict[int, int | None] = field(default_factory=dict)
    escape: Escape | None = None

    @property
    def is_exported(self) -> bool:
        """Whether the model is a quantised torch.export graph (PT2E)."""
        return any(call.operator.startswith((QUANTIZE, DEQUANTIZE)) for call in self.calls)

    @property
    def has_signed_activations(self) -> bool:
        """Whether all that a torch.export graph quantises on its way is int8."""
        made = [call.argument("dtype") for call in self.calls if call.operator.startswith(QUANTIZE) and call.depends]
        return bool(made) and set(made) == {torch.int8}


def tensors_in(item: Any) -> list[torch.Tensor]:
    """The tensors in nested lists, tuples and dicts."""
    return [leaf for leaf in tree_leaves(item) if isinstance(leaf, torch.Tensor)]


def codes_of(tensor: torch.Tensor, *, plain: bool) -> np.ndarray | None:
    """The integers of a quantised tensor; `plain`: what a plain one holds, one that a torch.export graph quantised, or
    one of floats, which become binary32."""
    if plain:
        return tensor.detach().to(torch.float32 if tensor.dtype.is_floating_point else tensor.dtype).numpy().copy()
    return tensor.int_repr().numpy() if tensor.is_quantized else None


def returned(output: Any) -> Returned | None:
    """What an output holds now; None for what is no tensor."""
    if not isinstance(output, torch.Tensor):
        return None
    if not output.is_quantized:
        return Returned(output.detach().numpy().copy())
    return Returned(output.int_repr().numpy(), output.q_scale(), output.q_zero_point())
