"""Extract, compile, simulate, and hold everything beside PyTorch's own run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from accelsim.arithmetic.engines import ONNXRUNTIME, PT2E, XNNPACK
from accelsim.compiler import compile_with_plans
from accelsim.errors import InputError, ModelError
from accelsim.hardware import Accelerator
from accelsim.hardware.configuration import Arithmetic
from accelsim.isa import Program
from accelsim.limits import DEFAULT, Limits
from accelsim.machine import Result, simulate
from accelsim.network import Network
from accelsim.network.substitution import LayerUnit, layer_units, trace_on

from .judge import Judge
from .result import LayerVerification, Verification


def verify(
    model: Any,
    x: Any,
    accelerator: Accelerator,
    *,
    batch: int | None = None,
    engine: str | None = None,
    lanes: str = "host",
    effort: int = 1,
    program: Program | None = None,
    limits: Limits = DEFAULT,
) -> Verification:
    """Extract, compile and simulate `model`, and compare inputs, layers and outputs with PyTorch's own run on `x`.

    `model`: as `extract` takes it, what PyTorch can run: no ONNX file and no topology.
    `x`: the model's input (a tuple for several), first axis the images. With `batch`, the network is recorded for that
    many images at a time and PyTorch runs so too, since which of PyTorch's lanes rounds an element depends on the
    batch; by default all of `x` is one batch. `effort`: the compiler's. `program` takes the place of the compiled one,
    to test the test. Raises the errors of `extract`, `compile` and `simulate`, and InputError for a `batch` that is no
    positive integer.
    """
    from accelsim.frontend import extract, runnable

    inputs = x if isinstance(x, tuple) else (x,)
    if batch is not None and (not isinstance(batch, int) or batch < 1):
        raise InputError(
            f"batch={batch!r}: a batch is a number of images, 1 or more; leave it out for all of x at once"
        )
    example = tuple(part[:batch] for part in inputs) if batch is not None else inputs
    model = runnable(model, example)
    network = extract(model, example if isinstance(x, tuple) else example[0], engine=engine, lanes=lanes)
    check_witness(network)
    units = None
    if program is None:
        compilation = compile_with_plans(network, accelerator, effort=effort, limits=limits)
        program, units = compilation.program, compilation.units
    result = simulate(program, x, accelerator=accelerator, limits=limits)
    return compare(network, result, model, x, units, limits=limits)


def check_witness(network: Network) -> None:
    """Raises ModelError for a network of an engine that PyTorch has not."""
    if network.engine == ONNXRUNTIME:
        raise ModelError(
            f"{network.name}: `verify` compares with PyTorch's kernels, but this network's are ONNX Runtime's; compare "
            "what `accelsim run --input` or `Network.run` gives with an InferenceSession's outputs"
        )
    if network.engine == XNNPACK:
        raise ModelError(
            f"{network.name}: `verify` compares with PyTorch's kernels, but this network's are XNNPACK's; compare what "
            "`accelsim run --input` or `Network.run` gives with the outputs of ExecuTorch's runtime"
        )


def compare(
    network: Network,
    result: Result,
    model: Any,
    x: Any,
    units: Mapping[str, LayerUnit] | None = None,
    *,
    limits: Limits = DEFAULT,
) -> Verification:
    """Compare a simulation of `network` on `x` with PyTorch's run of `model`, which it was taken from: the inputs after
    their quantisation, the layers, and the outputs as the caller gets them.

    `units`: those of the compilation, which spares their being found (in fixed point: proved) once more.
    """
    from accelsim.frontend import record_eager_values, record_run

    arithmetic = result.accelerator.requant_unit.arithmetic
    if arithmetic.is_exact:
        units = {}
    elif units is None:
        units = layer_units(network, arithmetic)
    machine, reference, run = (
        result.values,
        trace_on(network, arithmetic, x, units, limits),
        record_run(model, x, network),
    )
    judge = Judge(network, _of_this_host(network, model, x), reference, run, units, arithmetic.name)
    inputs = tuple(judge.input(name) for name in network.inputs if name in run.values)
    layers = []
    for node in network.nodes:
        if node.name in machine and node.name in run.values:
            layers.append(judge.layer(node, machine[node.name].quantized))
        else:
            judge.unseen(node)
    outputs = tuple(
        judge.output(output, returned)
        for output, returned in zip(result.outputs, run.outputs, strict=True)
        if returned is not None
    )
    notes = ["PyTorch ran with one thread; the number of threads moves the ends of its vector loops."]
    if not arithmetic.is_exact:
        notes.append(_changes(layers, units, arithmetic))
    if network.engine == PT2E:
        notes.append(_beside_eager(network, run.values, record_eager_values(model, x, network)))
    return Verification(network.engine, tuple(layers), (*notes, *network.notes), str(arithmetic), inputs, outputs)


def _changes(layers: list[LayerVerification], units: Mapping[str, LayerUnit], arithmetic: Arithmetic) -> str:
    """What the machine's arithmetic does to the layers, each from PyTorch's inputs, in one line."""
    mine = [layer for layer in layers if layer.name in units]
    changed, outputs = sum(layer.changed for layer in mine), sum(layer.compared for layer in mine)
    line = f"{arithmetic} gives {changed:,} of the {outputs:,} outputs of convolutions and linear layers another code"
    line += f", by at most {max(layer.worst for layer in mine)}" if changed else ""
    found = [unit.certificate.certified for unit in units.values() if unit.certificate is not None]
    if not found:
        return line
    certified, channels = sum(int(item.sum()) for item in found), sum(map(len, found))
    return f"{line}; {certified:,} of {channels:,} channels have a certificate, which lets none of theirs change"


def _beside_eager(network: Network, lowered: dict[str, np.ndarray], eager: dict[str, np.ndarray]) -> str:
    """How far the run of a torch.export graph is from the kernels that it is lowered to, in one line."""
    coded = [node.name for node in network.nodes if not network.values[node.name].affine.is_float]
    names = [name for name in coded if name in lowered]
    changes = [np.abs(lowered[name].astype(np.int32) - eager[name]).reshape(-1) for name in names]
    change = np.concatenate(changes) if changes else np.zeros(0, np.int32)
    differing, largest = int(np.count_nonzero(change)), int(change.max(initial=0))
    return (
        f"PyTorch's side are the kernels that the graph is lowered to. The graph itself, whose layers sum in float, "
        f"gives {differing:,} of these {change.size:,} outputs ({differing / max(change.size, 1):.2%}) another code, "
        f"by at most {largest}"
    )


def _of_this_host(network: Network, model: Any, x: Any) -> Network:
    """The network with the roundings of the kernels that PyTorch has just run."""
    from accelsim.frontend import extract, host_kernels

    if network.kernels == host_kernels(network.engine):
        return network
    batches = zip(x if isinstance(x, tuple) else (x,), network.inputs, strict=True)
    example = tuple(part[: network.values[name].shape[0]] for part, name in batches)
    try:
        return extract(model, example, engine=network.engine)
    except ModelError:  # what has no integer rule in this host's lanes explains nothing
        return network
