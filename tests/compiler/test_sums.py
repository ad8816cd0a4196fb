"""Accumulators of any width: what the weights allow is told, and a sum that does not fit is an error, never silent."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

import accelsim
from accelsim.compiler.sums import sum_bits
from accelsim.errors import MachineError

sys.path.insert(0, str(Path(__file__).parent))

from networks import Draft

EDGE = accelsim.Accelerator.from_yaml(Path(__file__).parents[2] / "configs" / "edge_16x16.yaml")


def with_bits(bits: int, size: int = 65536) -> accelsim.Accelerator:
    return EDGE.replace(**{"buffers.accumulator.bits": bits, "buffers.accumulator.bytes": size})


def worst(draft: Draft, network: accelsim.Network) -> tuple[np.ndarray, int]:
    """The codes (1, inputs) for which one output's sum is the farthest from zero, and that sum: each output tried."""
    weights = network.nodes[0].weights.codes.astype(int)  # type: ignore[union-attr]
    best = max(
        (np.where(sign * row > 0, 255, 0) for row in weights for sign in (1, -1)),
        key=lambda codes: int(abs(weights @ codes).max()),
    )
    sums = weights @ best
    return best.astype(np.uint8)[None], int(sums[np.argmax(abs(sums))])


@pytest.mark.parametrize("seed", range(6))
def test_the_bits_that_explain_tells_are_enough_and_one_fewer_is_too_few(seed: int) -> None:
    draft = Draft(np.random.default_rng(seed))
    network = draft.network(draft.linear(draft.input((1, int(draft.rng.integers(1, 70)))), 5))
    x, largest = worst(draft, network)
    bits = next(bits for bits in range(2, 33) if -(2 ** (bits - 1)) <= largest < 2 ** (bits - 1))
    assert sum_bits(network) == {"n0": bits}
    if bits >= 16:
        result = accelsim.simulate(accelsim.compile(network, with_bits(bits), effort=0), x)
        assert np.array_equal(result.outputs[0].quantized, network.run(x)[0].quantized)
    if bits > 16:
        program = accelsim.compile(network, with_bits(bits - 1), effort=0)
        accelsim.simulate(program, np.zeros_like(x))
        with pytest.raises(
            MachineError,
            match=rf"instruction \d+ \(mac .*accumulator word 0x.* is -?\d+ .*which {bits - 1} bits do not hold",
        ) as caught:
            accelsim.simulate(program, x)
        # The whole sum, or already a part of it where the plan cuts the reduction.
        found = re.search(r"is (-?\d+) \(pixel", str(caught.value))
        assert found is not None
        assert not -(2 ** (bits - 2)) <= int(found[1]) < 2 ** (bits - 2)


def test_narrow_words_leave_room_for_more_of_them() -> None:
    """1200 bytes: 300 words of 32 bits, 480 of 20."""
    assert with_bits(32, 1200).buffers.accumulator.words == 300
    assert with_bits(20, 1200).buffers.accumulator.words == 480
    draft = Draft(np.random.default_rng(0))
    network = draft.network(draft.convolution(draft.input((1, 4, 20, 20)), 16, 1))
    x = draft.data()
    expected = network.run(x)[0].quantized
    for bits in (18, 20, 24, 32):
        program = accelsim.compile(network, with_bits(bits, 640), effort=0)
        result = accelsim.simulate(program, x)
        assert np.array_equal(result.outputs[0].quantized, expected)
        used = max(region.stop for i in program.instructions for region in i.writes() if region.memory == 4)
        assert used <= 640 * 8 // bits
        # Each output is written to the accumulators once and read once.
        traffic = result.traffic["accumulator"]
        assert abs(traffic.written - 400 * 16 * bits / 8) <= len(program.instructions)
        assert traffic.read == traffic.written
