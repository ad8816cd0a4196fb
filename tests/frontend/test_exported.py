"""Quantised torch.export graphs (PT2E): what they are lowered to, and how far their own run is from that."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from exported_graphs import GRAPHS, exported, image

from accelsim.frontend import extract
from accelsim.frontend.reference import record_eager_values, record_values
from accelsim.network.checks import check


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_is_what_it_is_lowered_to(name: str) -> None:
    shape, make = GRAPHS[name]
    model = exported(make(), shape)
    x = torch.cat([image(seed, shape) for seed in range(3)])
    network = extract(model, x[: shape[0]])
    check(network)
    assert network.engine == "pt2e"
    ours, theirs = network.trace(x.numpy()), record_values(model, x, network)
    eager = record_eager_values(model, x, network)
    assert set(network.outputs) <= set(theirs)
    for value, expected in theirs.items():
        assert np.array_equal(ours[value], expected), (value, np.count_nonzero(ours[value] != expected))
        print(
            name,
            value,
            expected.size,
            np.count_nonzero(eager[value] != expected),
            np.abs(eager[value].astype(int) - expected).max(),
            expected.min(),
            expected.max(),
        )
