"""Single operators of quantised ONNX graphs are equal to ONNX Runtime's CPU provider in every bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="reads ONNX files: pip install accelsim[onnx]")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is the witness: pip install onnxruntime")

import onnx_graphs as graphs
import onnx_specs

import accelsim

pytestmark = pytest.mark.witness


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.full) for seed in range(1, 40))])
def test_every_operator_has_onnx_runtimes_codes(seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    wrong = []
    for spec in onnx_specs.specs(random):
        inputs = spec.random_inputs(random)
        path = graphs.of_spec(spec).save(tmp_path / "one.onnx")
        expected = graphs.codes_of(spec, path, inputs)
        network = accelsim.extract(path)
        by_hand = onnx_specs.network(spec, expected.shape)
        for made in (network, by_hand):
            got = made.run(tuple(inputs))[0].quantized
            if not np.array_equal(got, expected):
                wrong.append((spec.operator, spec.attributes, spec.inputs, spec.output, int((got != expected).sum())))
    assert not wrong
