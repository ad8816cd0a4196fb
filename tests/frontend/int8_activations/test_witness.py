"""Torch.export graphs with int8 activations are equal to ExecuTorch's runtime on XNNPACK in every bit."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("executorch", reason="ExecuTorch is the witness: pip install accelsim[executorch]")

import int8_graphs as graphs
import runtime
import torch
import xnnpack_specs
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
    XNNPACKQuantizer,
    get_symmetric_quantization_config,
)
from int8_networks import NETWORKS, quantised
from storing import numbers

import accelsim
from accelsim.arithmetic.affine import Affine, quantize

pytestmark = pytest.mark.witness

#: Networks of which a lowering takes seconds; of the others half a minute.
_QUICK = ("excited", "rows")


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.full) for seed in range(1, 8))])
def test_operators_have_xnnpacks_codes(seed: int) -> None:
    """Of each operator and set of attributes one, of the seeds after the first all, with 65,536 pairs of codes."""
    random = np.random.default_rng(seed)
    specs = list(xnnpack_specs.specs(random, 65536 if seed else 4096))
    if not seed:
        specs = list({(spec.operator, *spec.attributes): spec for spec in specs}.values())
    inputs = [spec.random_inputs(random) for spec in specs]
    wrong = []
    for some, given in graphs.chunks(zip(specs, inputs, strict=True)):
        network = accelsim.extract(*graphs.model_of(some, given))
        outputs = network.run(tuple(part for codes in given for part in codes))
        for spec, output, expected in zip(some, outputs, runtime.answers(some, given), strict=True):
            differing = int((output.quantized != expected).sum())
            if differing:
                wrong.append((spec.operator, spec.attributes, spec.inputs, spec.output, differing))
    assert not wrong


def test_inputs_are_quantised_as_xnnpack_does() -> None:
    real = numbers(np.random.default_rng(5))
    grids = [Affine(float(np.float32(scale)), zero, "int8") for scale, zero in ((0.125, -128), (0.0173, 9), (3.1, 127))]
    for grid, expected in zip(grids, runtime.quantized(real, grids), strict=True):
        assert np.array_equal(quantize(real, grid, "converted"), expected)


@pytest.mark.parametrize(
    ("name", "per_channel"),
    [
        pytest.param(name, per_channel, marks=[] if per_channel and name in _QUICK else pytest.mark.full)
        for name in NETWORKS
        for per_channel in (True, False)
    ],
)
def test_what_the_quantizer_leaves_has_executorchs_outputs(name: str, per_channel: bool) -> None:
    quantizer = XNNPACKQuantizer()
    quantizer.set_global(get_symmetric_quantization_config(is_per_channel=per_channel))
    model, x = quantised(name, quantizer)
    network = accelsim.extract(model, x)
    assert network.engine == "xnnpack"
    (expected,), left = runtime.run(torch.export.export(model, (x,)), (x,))
    (output,) = network.run(x.numpy())
    assert np.array_equal(output.dequantize(), expected), left
    program = accelsim.compile(network, accelsim.Accelerator.from_yaml("edge_16x16"), effort=0)
    assert np.array_equal(accelsim.simulate(program, x.numpy()).outputs[0].dequantize(), expected)
