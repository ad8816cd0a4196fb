"""Each format holds every array, and its manifest says what the arrays are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.engines import KernelSet
from accelsim.errors import FormatError
from accelsim.export import Bundle, network_bundle, write, write_certificates
from accelsim.network import GroupNorm, Network, Value
from accelsim.network.substitution import certify_layer, matrix_nodes
from accelsim.report.parameters import parameters

from .layers import network_of, torch_model


@pytest.fixture
def bundle() -> Bundle:
    return network_bundle(network_of(torch_model("fbgemm"), "fbgemm", 1), 12)


def memory(path: Path, dtype: str, shape: list[int]) -> np.ndarray:
    """A `$readmemh` file, read as Verilog does: comments, then words of hexadecimal digits."""
    words = [line for line in path.read_text().splitlines() if not line.startswith("//")]
    data = b"".join(bytes.fromhex(word)[::-1] for word in words)
    return np.frombuffer(data, np.dtype(dtype).newbyteorder("<")).reshape(shape)


def read(format: str, written: list[Path]) -> dict[str, np.ndarray]:
    manifest = json.loads(written[-1].read_text())
    if format == "safetensors":
        return safetensors.numpy.load_file(written[0])
    if format == "npz":
        return dict(np.load(written[0]))
    folder = written[0].parent
    return {item["name"]: memory(folder / item["file"], item["dtype"], item["shape"]) for item in manifest["tensors"]}


@pytest.mark.parametrize("format", ["safetensors", "npz", "mem"])
def test_what_is_read_back_is_pytorch_s(format: str, bundle: Bundle, tmp_path: Path) -> None:
    written = write(bundle, format, tmp_path / "net")
    arrays, model = read(format, written), torch_model("fbgemm")
    for layer in ("1", "3"):
        weight, bias = model[int(layer)]._weight_bias()
        assert np.array_equal(arrays[f"{layer}.weight"], weight.int_repr().numpy())
        assert np.array_equal(arrays[f"{layer}.weight_scale"], weight.q_per_channel_scales().numpy())
        assert np.array_equal(arrays[f"{layer}.bias"], bias.detach().numpy())
    manifest: dict[str, Any] = json.loads(written[-1].read_text())
    assert manifest["file_format"] == format
    for item in manifest["tensors"]:
        assert list(arrays[item["name"]].shape) == item["shape"]
        assert str(arrays[item["name"]].dtype) == item["dtype"]
        assert item["meaning"]
    assert arrays.keys() == {item["name"] for item in manifest["tensors"]}
    conv = next(node for node in manifest["nodes"] if node["name"] == "1")
    assert (conv["node"], conv["padding"], conv["relu"], conv["clamp"]) == (
        "Convolution",
        [[1, 1], [1, 1]],
        True,
        [3, 255],
    )
    assert manifest["values"]["x"]["zero_point"] == 61


def test_a_c_header_leaves_its_floats_to_the_manifest(bundle: Bundle, tmp_path: Path) -> None:
    _, manifest = write(bundle, "c", tmp_path / "net.h")
    items = {item["name"]: item for item in json.loads(manifest.read_text())["tensors"]}
    _, bias = torch_model("fbgemm")[1]._weight_bias()
    assert items["1.bias"]["values"] == bias.tolist()
    assert items["1.weight"]["file"] == "net.h"


def test_the_manifest_never_overwrites_what_it_describes(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="another"):
        write(bundle, "npz", tmp_path / "net.json")
    with pytest.raises(FormatError, match="safetensors, npz, c, mem"):
        write(bundle, "yaml", tmp_path / "net")


@pytest.mark.parametrize("ending", ["json", "safetensors"])
def test_certificates_are_written_with_what_they_prove(ending: str, tmp_path: Path) -> None:
    network = network_of(torch_model("qnnpack"), "qnnpack", 1)
    found = {node.name: certify_layer(network, node, 10) for node in matrix_nodes(network)}
    path = tmp_path / f"constants.{ending}"
    write_certificates(network, found, path)
    if ending == "safetensors":
        arrays = safetensors.numpy.load_file(path)
        assert np.array_equal(arrays["3.multiplier"], found["3"].constants.multiplier)
        assert arrays["3.certified"].dtype == np.bool_
        return
    layer = json.loads(path.read_text())["layers"]["3"]
    # Its own ranges, tried with the constants that it names, are as many as it says.
    for channel, count in enumerate(layer["differing"]):
        ranges = layer["differing_ranges"].get(str(channel), [])
        assert sum(stop - start for start, stop in ranges) == count
    assert any(layer["differing"])


def test_certificates_of_another_ending_are_refused(tmp_path: Path) -> None:
    network = network_of(torch_model("qnnpack"), "qnnpack", 1)
    with pytest.raises(FormatError, match=r"\.json or \.safetensors"):
        write_certificates(network, {}, tmp_path / "constants.txt")


@pytest.mark.parametrize("format", ["safetensors", "npz", "mem", "c"])
def test_a_normalisation_leaves_its_real_numbers(format: str, tmp_path: Path) -> None:
    grid, shape = Affine(0.5, 3, "uint8"), (1, 2, 3, 3)
    factor = np.array([0.5, -1.25], np.float32)
    node = GroupNorm("norm", ("x",), 2, factor, None, 1e-5)
    values = {name: Value(name, shape, grid, (0, 1, 2, 3)) for name in ("x", "norm")}
    network = Network("fbgemm", KernelSet("avx2", "avx2"), values, (node,), ("x",), ("norm",))
    written = write(network_bundle(network), format, tmp_path / "net")
    manifest = json.loads(written[-1].read_text())
    (entry,) = manifest["nodes"]
    assert (entry["node"], entry["groups"], entry["epsilon"]) == ("GroupNorm", 2, 1e-5)
    (tensor,) = manifest["tensors"]
    assert (tensor["name"], tensor["dtype"]) == ("norm.factor", "float32")
    read_back = tensor["values"] if format == "c" else read(format, written)["norm.factor"].tolist()
    assert read_back == [0.5, -1.25]
    rows = [(row.layer, row.role, row.low, row.high) for row in parameters(network)]
    assert rows == [("x", "input", 0, 255), ("norm", "factor", -1.25, 0.5), ("norm", "output", 0, 255)]
