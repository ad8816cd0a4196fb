"""What the compiler promises besides right codes: programs that round-trip, errors that say what is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import accelsim
from accelsim.errors import CompileError

sys.path.insert(0, str(Path(__file__).parent))

from networks import Draft

EDGE = accelsim.Accelerator.from_yaml(Path(__file__).parents[2] / "configs" / "edge_16x16.yaml")


def small(seed: int = 0) -> tuple[Draft, accelsim.Network]:
    draft = Draft(np.random.default_rng(seed))
    name = draft.convolution(draft.input((1, 3, 12, 10)), 8, 3, padding=1)
    name = draft.add(name, draft.convolution(name, 8, 3, padding=1))
    name = draft.reshape(draft.max_pool(name, 2, 2, 0), (1, 8 * 6 * 5))
    name = draft.linear(draft.linear(name, 20), 7)
    return draft, draft.network(name)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 7), (7, 3), (16, 16), (64, 64)])
@pytest.mark.parametrize("dataflow", ["weight_stationary", "output_stationary", "input_stationary"])
def test_every_array_gives_the_same_codes(rows: int, columns: int, dataflow: str) -> None:
    draft, network = small()
    changes = {"mac_array.rows": rows, "mac_array.columns": columns, "mac_array.dataflow": dataflow}
    x = draft.data(3)
    result = accelsim.simulate(accelsim.compile(network, EDGE.replace(**changes), effort=0), x)
    assert np.array_equal(result.outputs[0].quantized, network.run(x)[0].quantized)
    assert result.cycles * rows * columns >= result.macs > 0


def test_a_program_survives_its_file_and_its_text(tmp_path: Path) -> None:
    draft, network = small()
    program = accelsim.compile(network, EDGE)
    program.save(tmp_path / "net.bin")
    loaded = accelsim.Program.load(tmp_path / "net.bin")
    assert loaded == program
    assembled = accelsim.assemble(program.assembly())
    assert assembled.words() == program.words()
    x = draft.data()
    expected = accelsim.simulate(program, x).outputs[0].quantized
    for other in (loaded, assembled):
        assert np.array_equal(accelsim.simulate(other, x).outputs[0].quantized, expected)


def test_compiling_twice_gives_the_same_program() -> None:
    _, network = small()
    assert accelsim.compile(network, EDGE).words() == accelsim.compile(network, EDGE).words()


@pytest.mark.parametrize(
    ("key", "size", "said"),
    [
        ("activation", 16, r"activation buffer.*missing"),
        ("weight", 8, r"weight buffer, which has 8 for it.*missing"),
        ("accumulator", 2, r"accumulator buffer.*missing"),
        ("parameter", 8, r"parameter buffer.*missing"),
    ],
)
def test_a_network_that_does_not_fit_says_which_layer_which_buffer_and_how_much(key: str, size: int, said: str) -> None:
    draft = Draft(np.random.default_rng(1))
    network = draft.network(draft.convolution(draft.input((1, 3, 9, 9)), 4, 5))
    with pytest.raises(CompileError, match=rf"^n0: .*{said}"):
        accelsim.compile(network, EDGE.replace(**{f"buffers.{key}.bytes": size}))


def test_an_effort_that_there_is_not_is_refused() -> None:
    _, network = small()
    with pytest.raises(CompileError, match="effort=3"):
        accelsim.compile(network, EDGE, effort=3)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dims", [1, 3])
def test_convolutions_over_one_and_three_axes(dims: int, stride: int) -> None:
    draft = Draft(np.random.default_rng(dims))
    name = draft.input((2, 4, *(7, 6, 5)[:dims]))
    name = draft.convolution(name, 6, 3, padding=1, stride=stride, groups=2)
    name = draft.convolution(name, 4, 2, transposed=True, stride=2)
    network = draft.network(name)
    x = draft.data(2)
    for array in ("weight_stationary", "output_stationary", "input_stationary"):
        result = accelsim.simulate(
            accelsim.compile(network, EDGE.replace(**{"mac_array.dataflow": array}), effort=0), x
        )
        assert np.array_equal(result.outputs[0].quantized, network.run(x)[0].quantized)


def test_a_permutation_that_no_view_is_equal_to_is_copied() -> None:
    draft = Draft(np.random.default_rng(3))
    name = draft.permute(draft.convolution(draft.input((2, 3, 5, 4)), 6, 1), (0, 2, 3, 1))
    name = draft.convolution(draft.reshape(name, (2, 4, 6, 5)), 5, 3)
    network = draft.network(draft.slice(name, 3, 1, 3))
    x = draft.data(2)
    result = accelsim.simulate(accelsim.compile(network, EDGE), x)
    assert np.array_equal(result.outputs[0].quantized, network.run(x)[0].quantized)
