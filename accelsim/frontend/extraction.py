"""From a quantised PyTorch model to a network: record one run, then build a node for every call."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from accelsim.arithmetic.engines import EXPORTED, PT2E, XNNPACK, KernelSet
from accelsim.errors import InputError, ModelError
from accelsim.network import Network, Reshape
from accelsim.network.checks import check
from accelsim.network.rounding import check_roundings

from . import exported, xnnpack
from .builder import Builder, Codes, Move, reshape
from .calls import DEQUANTIZE, Call, Escape, Recording
from .calls import QUANTIZE as EXPORTED_QUANTIZE
from .dependence import check_repeats, perturbed
from .float_operators import compute
from .host import kernels_for
from .layouts import is_dense, order_of
from .lookups import float_operator
from .operators import (
    MOVEMENTS,
    ON_DEQUANTIZED,
    OPERATORS,
    QUANTIZE,
    REFUSED,
    SAME,
    TAKE_SEVERAL,
    UNCONVERTED,
    is_elementwise,
    quantize,
)
from .packed import packed_keys
from .recording import ENGINE_LOCK, check_engine, quantized_engine, record_twice


def extract(model: Any, example_input: Any, *, engine: str | None = None, lanes: str | KernelSet = "host") -> Network:
    """The integers of a statically quantised model as a network.

    `model`: an eager-converted, FX-converted or traced TorchScript module, a quantised torch.export graph (PT2E), or a
    function of tensors. `example_input`: a tensor (or array), a tuple for several inputs; its shapes, batch included,
    become the network's. `engine`: whose arithmetic is meant, by default `torch.backends.quantized.engine`; of a
    torch.export graph that of XNNPACK ("xnnpack") where all activations are int8, else that of Inductor's lowered
    kernels ("pt2e"). `lanes`: the kernel set whose vector lanes are
    meant: "host", "default", "avx2", "avx512", or "uniform" for one rule in all lanes; XNNPACK has one rule.
    The model is run twice, on the example and on other numbers of its shapes, and may make the same calls with the same
    constants only. It runs with all rights of this process: whose code it is, is the caller's responsibility
    (SECURITY.md). Raises ModelError naming the layer and operator that no integer
    node stands for, or whose rounding is not known.
    """
    _check_lowered(model)
    given, engine = engine, check_engine(engine)
    example = tensors_of(example_input)
    recording, again = record_twice(model, example, perturbed(example), engine)
    if recording.is_exported != (engine in EXPORTED):
        if given is not None:
            kind = (
                "a torch.export graph, whose arithmetic is"
                if recording.is_exported
                else "no torch.export graph, as for"
            )
            raise ModelError(
                f"engine {given!r}: the model is {kind} {' or '.join(map(repr, EXPORTED))}; name no engine"
            )
        engine = XNNPACK if recording.has_signed_activations else PT2E
    kernels = xnnpack.KERNELS if engine == XNNPACK else kernels_for(lanes, engine)
    built = build(model, recording, engine, kernels)
    check_repeats(recording, again)
    name = "network" if isinstance(model, torch.jit.ScriptModule) else type(model).__name__
    network = built.network(name)
    check(network)  # what is not allowed in a file is not made, either
    check_roundings(network)
    return network


def _check_lowered(model: Any) -> None:
    """Raises ModelError for what `convert_to_reference_fx` made: layers in float between quantisations."""
    for path, module in model.named_modules() if isinstance(model, torch.nn.Module) else ():
        if type(module).__module__.startswith("torch.ao.nn.quantized.reference"):
            raise ModelError(
                f"layer {path!r}: a layer of a reference model, which computes in float and has no engine; convert the "
                "prepared model by torch.ao.quantization.quantize_fx.convert_fx(prepared) instead"
            )


def build(model: Any, recording: Recording, engine: str, kernels: KernelSet) -> Builder:
    """The nodes of a recording."""
    builder = Builder(recording, engine, kernels, packed_keys(model))
    with ENGINE_LOCK, quantized_engine(engine):
        for position in range(len(recording.calls)):
            _check_escape(recording.escape, position)
            _visit(builder, builder.at(position))
        _check_escape(recording.escape, len(recording.calls))
    return builder


def _check_escape(escape: Escape | None, position: int) -> None:
    if escape is not None and escape.position == position:
        where = f"layer {escape.scope!r}" if escape.scope else "the model"
        if "activation_post_process" in escape.scope:  # an observer
            raise ModelError(f"{where}: {UNCONVERTED}")
        raise ModelError(
            f"{where}: {escape.what} turns elements that depend on the model's inputs into numbers or sizes, which "
            f"would be constants of the network; compute with tensors, and take checks and branches on data out of the "
            f"model"
        )


def tensors_of(x: Any) -> tuple[torch.Tensor, ...]:
    """Inputs as tensors. Raises InputError for what is none, or has no element."""
    parts = x if isinstance(x, tuple) else (x,)
    try:
        tensors = tuple(part if isinstance(part, torch.Tensor) else torch.as_tensor(np.asarray(part)) for part in parts)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"no tensor can be made of the input ({error}); give a tensor or a tuple of tensors") from None
    for number, tensor in enumerate(tensors):
        if not tensor.numel():
            raise InputError(f"input {number}: shape {tuple(tensor.shape)} has no elements; give at least one row")
    return tensors


def _visit(builder: Builder, call: Call) -> None:
    _check_parameters(builder, call)
    if builder.engine == PT2E and exported.visit(builder, call):
        return
    if builder.engine == XNNPACK and xnnpack.visit(builder, call):
        return
    if not call.results or not any(builder.reference(tensor) is not None for tensor in call.tensors):
        return  # constants and parameters
    name = call.operator.removesuffix("_")
    if name in REFUSED:
        raise ModelError(f"{builder.where(call)}: {call.operator}: {REFUSED[name]}")
    if call.function._schema.is_mutable and name == call.operator:
        raise ModelError(
            f"{builder.where(call)}: {call.operator} writes into an operand (out=) that it is given; "
            f"take its result instead"
        )
    source = call.tensors[0]
    if name in MOVEMENTS and not source.dim():
        # One element has no axes to count; whatever moves it gives it another shape at most.
        builder.move(call, source, [(result, (reshape(result.shape),)) for result in call.results])
    elif name in SAME:
        _same(builder, call, source)
    elif name in MOVEMENTS:
        MOVEMENTS[name](builder, call)
    elif name in QUANTIZE:
        quantize(builder, call)
    elif name in OPERATORS and _on_codes(builder, call):
        OPERATORS[name](builder, call)
    elif name in ON_DEQUANTIZED and ON_DEQUANTIZED[name](builder, call):
        pass
    elif is_elementwise(call):
        float_operator(builder, call)
    elif not _on_codes(builder, call) and compute(builder, call):
        pass
    elif _on_codes(builder, call):
        raise ModelError(
            f"{builder.where(call)}: {call.operator} is not supported on quantised tensors; "
            f"replace it, or dequantise before it and quantise after it"
        )
    else:
        foreign = builder.foreign(call, "computes in float, and not element by element")
        for result in call.results:
            builder.assign(result, foreign)


def _check_parameters(builder: Builder, call: Call) -> None:
    """Raises ModelError where what should be a constant of the network, a scale or an index, comes from its inputs."""
    name = call.operator.removesuffix("_")
    known = (
        name in OPERATORS or name in MOVEMENTS or name in QUANTIZE or name.startswith((EXPORTED_QUANTIZE, DEQUANTIZE))
    )
    if known and name not in TAKE_SEVERAL and any(builder.reference(tensor) is not None for tensor in call.tensors[1:]):
        raise ModelError(
            f"{builder.where(call)}: {call.operator} takes a tensor that depends on the model's inputs where a network "
            f"has constants (a scale, an index, a parameter, a tensor to write to); make it independent of the inputs"
        )


def _on_codes(builder: Builder, call: Call) -> bool:
    return any(isinstance(builder.reference(tensor), Codes) or tensor.is_quantized for tensor in call.tensors)


def _same(builder: Builder, call: Call, source: torch.Tensor) -> None:
    """The same elements; in another order of memory they are another value, since PyTorch's lanes follow memory."""
    if call.argument("train") or call.argument("training"):
        raise ModelError(f"{builder.where(call)}: {call.operator} drops elements by chance; use it with training=False")
    result = call.results[0]
    alike = order_of(result) == order_of(source) and is_dense(result) == is_dense(source)
    moved = isinstance(builder.reference(source), Codes) and not alike
    moves = (Move(lambda name, inputs: Reshape(name, inputs), tuple(result.shape)),) if moved else ()
    builder.move(call, source, [(result, moves)])
