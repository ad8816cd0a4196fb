"""Topologies: the layers that the rows say, counted by hand."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import accelsim
from accelsim.errors import FormatError
from accelsim.network import Convolution, Linear
from accelsim.network.topology import is_topology, read_topology

CONVOLUTIONS = """Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,
Conv1, 30, 28, 3, 5, 4, 16, 2,
Conv1, 8, 8, 1, 1, 16, 24, 1, 2,

"odd, name", 3, 3, 3, 3, 1, 1, 1
"""
PRODUCTS = "Layer, M, N, K,\nqk, 10, 12, 64,\nav,10,64,12\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.csv").write_text(CONVOLUTIONS)
    (tmp_path / "gemm.csv").write_text(PRODUCTS)
    return tmp_path


def test_rows_become_layers(place: Path) -> None:
    network = read_topology("net.csv")
    assert network.name == "net"
    assert [node.name for node in network.nodes] == ["Conv1", "Conv1_2", "odd, name"]
    assert all(isinstance(node, Convolution) for node in network.nodes)
    assert network.values["Conv1.input"].shape == (1, 4, 30, 28)
    assert [network.values[node.name].shape for node in network.nodes] == [
        (1, 16, 14, 12), (1, 24, 8, 4), (1, 1, 1, 1)
    ]  # fmt: skip
    macs = [14 * 12 * 16 * 3 * 5 * 4, 8 * 4 * 24 * 16, 9]
    result = accelsim.simulate(accelsim.compile(network, accelsim.Accelerator.from_yaml("edge_16x16"), effort=0))
    assert [layer.macs for layer in result.layers] == macs
    products = read_topology("gemm.csv")
    assert all(isinstance(node, Linear) for node in products.nodes)
    assert [products.values[node.name].shape for node in products.nodes] == [(10, 12), (10, 64)]


def test_the_same_file_gives_the_same_network_which_can_be_saved_and_run(place: Path) -> None:
    network = accelsim.extract("net.csv")
    network.save("net.accelsim")
    again = accelsim.Network.load("net.accelsim")
    for node in network.nodes:
        assert np.array_equal(
            again.node(node.name).weights.codes, read_topology("net.csv").node(node.name).weights.codes
        )
    other = read_topology("net.csv", seed=1)
    assert not np.array_equal(other.nodes[0].weights.codes, network.nodes[0].weights.codes)
    rng = np.random.default_rng(0)
    x = tuple(rng.integers(0, 256, network.values[name].shape).astype(np.uint8) for name in network.inputs)
    result = accelsim.simulate(accelsim.compile(network, accelsim.Accelerator.from_yaml("teaching_4x4"), effort=0), x)
    for found, expected in zip(result.outputs, network.run(x), strict=True):
        assert np.array_equal(found.quantized, expected.quantized)
        assert found.quantized.std() > 5 or found.quantized.size == 1  # scales that codes make use of


def test_the_command_line_runs_one(place: Path) -> None:
    from typer.testing import CliRunner

    from accelsim.cli import application

    ran = CliRunner().invoke(application, ["run", "edge_16x16", "gemm.csv", "--effort", "0", "--json"])
    assert ran.exit_code == 0, ran.stderr
    layers = json.loads(ran.stdout)["layers"]
    assert [layer["macs"] for layer in layers] == [10 * 12 * 64, 10 * 64 * 12]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("a, 5, 5, 3, 3, 1", "line 2: 5 sizes"),
        ("a, 5, 5, 3, 3, 0, 1, 1", "line 2: channels is '0'"),
        ("a, 5, 5, 3, x, 1, 1, 1", "line 2: kernel width is 'x'"),
        ("a, 5, 5, 6, 3, 1, 1, 1", "line 2: the kernel of 6 x 3 is larger than the input of 5 x 5"),
        ("a, 5, 5, 3, 3, 65536, 65536, 1", "line 2: all weights up to here take over"),
        ("a, 99999999999, 5, 3", "line 2: m is '99999999999'"),
        ("", "has no layer"),
    ],
)
def test_what_is_no_layer_is_named_by_its_line(place: Path, row: str, words: str) -> None:
    (place / "wrong.csv").write_text(CONVOLUTIONS.partition("\n")[0] + "\n" + row + "\n")
    with pytest.raises(FormatError, match=words):
        read_topology("wrong.csv")


def test_other_files_are_none(place: Path) -> None:
    (place / "notes.txt").write_text("layers, of a cake\n")
    (place / "bytes").write_bytes(b"layer,\xff\xfe,,,,\n")
    assert [is_topology(name) for name in ("net.csv", "gemm.csv", "notes.txt", "bytes", "nothing")] == [
        True, True, False, False, False
    ]  # fmt: skip


def test_a_pipe_is_not_waited_for(place: Path) -> None:
    os.mkfifo("pipe")
    assert not is_topology("pipe")
    with pytest.raises(FormatError, match="no such file"):
        accelsim.extract("pipe")
