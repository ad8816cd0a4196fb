"""Which tensors stay on the chip, by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import accelsim
from accelsim.compiler import compile_with_plans

sys.path.insert(0, str(Path(__file__).parent))

from networks import Draft

EDGE = accelsim.Accelerator.from_yaml(Path(__file__).parents[2] / "configs" / "edge_16x16.yaml")
SIDE = 8
PLANE = SIDE * SIDE


def placed(network: accelsim.Network, activation: int) -> accelsim.compiler.Compilation:
    return compile_with_plans(network, EDGE.replace(**{"buffers.activation.bytes": activation}), effort=0)


def same_values(draft: Draft, network: accelsim.Network, compilation: accelsim.compiler.Compilation) -> None:
    x = draft.data(2)
    expected = network.trace(x)
    values = accelsim.simulate(compilation.program, x).values
    assert {node.name for node in network.nodes} == set(values)
    for name, value in values.items():
        np.testing.assert_array_equal(value.quantized, expected[name])


def test_operands_that_fill_the_buffer_together_need_no_room_beside_them() -> None:
    draft = Draft(np.random.default_rng(1))
    whole = draft.convolution(draft.input((1, 4, SIDE, SIDE)), 32, 1)
    one = draft.convolution(whole, 16, 1)
    two = draft.convolution(one, 16, 1)
    skip = draft.convolution(whole, 16, 1)
    total = draft.add(skip, two)
    network = draft.network(draft.convolution(total, 4, 1))
    # 32 planes, then 16 and 16: while the fourth convolution works, three tensors take every byte.
    compilation = placed(network, 64 * PLANE)
    assert set(compilation.placement.addresses) == {whole, one, two, skip, total}
    # Only the network's result is written.
    assert accelsim.simulate(compilation.program).traffic["dram"].written == 4 * PLANE
    same_values(draft, network, compilation)


def test_a_chain_of_sums_stays_in_one_place() -> None:
    draft = Draft(np.random.default_rng(2))
    sums = [draft.convolution(draft.input((1, 4, SIDE, SIDE)), 96, 1)]
    for _ in range(3):
        narrow = draft.convolution(sums[-1], 8, 1)
        sums.append(draft.add(draft.convolution(narrow, 96, 1), sums[-1]))
    network = draft.network(draft.convolution(sums[-1], 4, 1))
    # One wide tensor, a narrow one and room for tiles, not two wide ones.
    compilation = placed(network, 180 * PLANE)
    assert {compilation.placement.addresses[name] for name in sums} == {0}
    assert accelsim.simulate(compilation.program).traffic["dram"].written == 4 * PLANE
    same_values(draft, network, compilation)


def test_an_operand_that_is_read_again_keeps_its_place() -> None:
    draft = Draft(np.random.default_rng(3))
    wide = draft.convolution(draft.input((1, 4, SIDE, SIDE)), 32, 1)
    narrow = draft.convolution(wide, 8, 1)
    total = draft.add(draft.convolution(narrow, 32, 1), wide)
    network = draft.network(draft.convolution(draft.multiply(total, wide), 4, 1))
    compilation = placed(network, 1 << 16)
    addresses = compilation.placement.addresses
    assert {wide, total} <= addresses.keys()
    assert abs(addresses[wide] - addresses[total]) >= 32 * PLANE
    same_values(draft, network, compilation)


def test_rules_for_body_and_tail_need_the_operand_once_more() -> None:
    draft = Draft(np.random.default_rng(4))
    source = draft.convolution(draft.input((1, 4, 7, 7)), 9, 1)  # 441 elements: the last 57 take another table
    result = draft.lookup(source)
    network = draft.network(draft.convolution(result, 4, 1))
    compilation = placed(network, 1 << 16)
    addresses = compilation.placement.addresses
    assert abs(addresses[source] - addresses[result]) >= 441
    same_values(draft, network, compilation)
