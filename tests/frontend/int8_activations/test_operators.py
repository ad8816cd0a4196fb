"""Operators of torch.export graphs with int8 activations: the network has the codes that XNNPACK gave."""

from __future__ import annotations

import int8_graphs as graphs
import numpy as np
import pytest
import storing
from xnnpack_specs import Spec
from xnnpack_store import STORE

import accelsim


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.full)])
def test_stored_operators_are_extracted_from_a_graph(every: bool) -> None:
    """Of each operator and set of attributes one, or all."""
    chosen = {(item[0].operator, *item[0].attributes): item for item in storing.stored(STORE, Spec)}
    operators = set()
    for specs, inputs, expected in graphs.chunks(storing.stored(STORE, Spec) if every else chosen.values()):
        network = accelsim.extract(*graphs.model_of(specs, inputs))
        assert network.engine == "xnnpack"
        outputs = network.run(tuple(part for given in inputs for part in given))
        for spec, output, wanted in zip(specs, outputs, expected, strict=True):
            same = np.array_equal(output.quantized, wanted)
            assert same, (spec.operator, spec.attributes, spec.inputs, spec.output)
            operators.add(spec.operator)
    assert len(operators) == 14
