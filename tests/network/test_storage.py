"""A saved network comes back the same, whatever nodes it has; a damaged file is refused, and nothing in it is run."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from accelsim.arithmetic.affine import FLOAT, Affine
from accelsim.arithmetic.engines import KernelSet
from accelsim.arithmetic.vector import Operation, Register, Statistic, Writer
from accelsim.container import sealed
from accelsim.errors import FormatError, ModelError
from accelsim.limits import Limits
from accelsim.network import (
    Add,
    AveragePool,
    Bilinear,
    Concatenate,
    Constant,
    Convolution,
    Gather,
    GroupNorm,
    LayerNorm,
    Linear,
    Lookup,
    Matmul,
    MaxPool,
    Multiply,
    Network,
    Node,
    Permute,
    Reshape,
    ResidualLayer,
    Slice,
    Softmax,
    Unfold,
    Value,
    Weights,
    vector_node,
)
from accelsim.network.graph import Maximum


def _weights(rng: np.random.Generator, *shape: int, channels: int | None = None, bias: bool = True) -> Weights:
    count = channels or 1
    return Weights(
        codes=rng.integers(-128, 128, shape, np.int8),
        scale=rng.uniform(0.001, 0.1, count),
        zero_point=rng.integers(-3, 4, count).astype(np.int32),
        per_channel=channels is not None,
        bias=rng.normal(size=channels or shape[0]).astype(np.float32) if bias else None,
        key="a.layer",
    )


def everything() -> Network:
    """Each kind of node once, in one graph: (1, 4, 6, 6) to 3 numbers, and what else there is beside it."""
    rng = np.random.default_rng(0)
    a, b = Affine(0.1, 7, "uint8"), Affine(float(np.nextafter(0.3, 1)), 250, "uint8")
    shape, last = (1, 4, 6, 6), (0, 2, 3, 1)
    table = rng.integers(0, 256, (2, 256)).astype(np.uint8)
    none = ((0, 0), (0, 0))
    even, share = Affine(0.25, 3, "uint8"), Affine(2.0**-8, 0, "uint8")
    program = Writer()
    program.step(Operation.ADD, program.dequantized(Register(0), b), Register(1))
    built: list[tuple[Node, tuple[int, ...], Affine]] = [
        (Convolution("up", ("x",), _weights(rng, 4, 2, 2, 2, channels=2), (1, 1), none, (1, 1), transposed=True,
                     output_padding=(0, 0)), (1, 2, 7, 7), b),
        (Convolution("down", ("up",), _weights(rng, 4, 1, 2, 2), (1, 1), none, (1, 1), 2, True), shape, b),
        (Lookup("look", ("x",), "hardswish", table, ((0, 64, 0), (64, 144, 1))), shape, b),
        (Add("sum", ("down", "look"), True), shape, a),
        (Multiply("product", ("sum", "look")), shape, a),
        (Maximum("larger", ("product", "sum"), True), shape, a),
        (MaxPool("most", ("larger",), (2, 2), (2, 2), ((0, 1), (1, 0)), (1, 1)), (1, 4, 3, 3), a),
        (AveragePool("mean", ("most",), "window", (2, 2), (1, 1), none, False, 3), (1, 4, 2, 2), a),
        (Concatenate("beside", ("mean", "mean"), 1), (1, 8, 2, 2), a),
        (Permute("turned", ("beside",), (0, 2, 3, 1)), (1, 2, 2, 8), a),
        (Slice("cut", ("turned",), 3, 1, 8, 3), (1, 2, 2, 3), a),
        (Reshape("flat", ("cut",)), (1, 12), a),
        (Linear("dense", ("flat",), _weights(rng, 3, 12, bias=False), True), (1, 3), b),
        (Bilinear("large", ("x",), False, (2.0, None)), (1, 4, 12, 9), a),
        (GroupNorm("groups", ("large",), 2, rng.normal(size=4).astype(np.float32), None, 1e-5), (1, 4, 12, 9), even),
        (LayerNorm("rows", ("groups",), 2, None, rng.normal(size=(12, 9)).astype(np.float32), 1e-3), (1, 4, 12, 9),
         even),
        (Unfold("windows", ("rows",), 2, 4, 3), (1, 4, 3, 9, 4), even),
        (Gather("chosen", ("windows",), 3, (4, 4, 0)), (1, 4, 3, 3, 4), even),
        (Permute("turned back", ("windows",), (0, 1, 2, 4, 3)), (1, 4, 3, 4, 9), even),
        (Matmul("squares", ("chosen", "turned back")), (1, 4, 3, 3, 9), a),
        (Softmax("shares", ("squares",), 4), (1, 4, 3, 3, 9), share),
        (ResidualLayer("kept", ("up", "look"), Convolution("kept", ("up",), _weights(rng, 4, 1, 2, 2), (1, 1), none,
                       (1, 1), 2, float_output=True)), shape, b),
        (Constant("shift", (), rng.normal(size=(1, 3)).astype(np.float32)), (1, 3), FLOAT),
        (vector_node("total", ("dense", "shift"), "sum", program.program, Statistic.SUM, (1,)), (1, 1), FLOAT),
    ]  # fmt: skip
    values = {"x": Value("x", shape, a, last)}
    for node, size, affine in built:
        values[node.name] = Value(node.name, size, affine, last if len(size) == 4 else tuple(range(len(size))))
    nodes = tuple(node for node, _, _ in built)
    outputs = ("dense", "sum", "shares", "total")
    return Network("qnnpack", KernelSet("avx2", "vnni"), values, nodes, ("x",), outputs, "all kinds", ("a note",))


def assert_same(a: Any, b: Any, where: str = "network") -> None:
    """Equal in every field, every type and every bit of every array."""
    assert type(a) is type(b), where
    if isinstance(a, np.ndarray):
        assert (a.dtype, a.shape) == (b.dtype, b.shape), where
        assert a.tobytes() == b.tobytes(), where
    elif is_dataclass(a):
        for field in fields(a):
            assert_same(getattr(a, field.name), getattr(b, field.name), f"{where}.{field.name}")
    elif isinstance(a, dict):
        assert list(a) == list(b), where
        for key, value in a.items():
            assert_same(value, b[key], f"{where}[{key}]")
    elif isinstance(a, tuple):
        assert len(a) == len(b), where
        for index, (one, other) in enumerate(zip(a, b, strict=True)):
            assert_same(one, other, f"{where}[{index}]")
    else:
        assert a == b, where


def test_every_kind_of_node_comes_back_the_same(tmp_path: Path) -> None:
    network = everything()
    kinds = {kind for some in Node.__subclasses__() for kind in (some.__subclasses__() or [some])}
    assert {type(node) for node in network.nodes} == kinds
    network.save(tmp_path / "network")
    assert_same(Network.load(tmp_path / "network"), network)
    # Saved again, the file is the same in every byte.
    Network.load(tmp_path / "network").save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "network").read_bytes()


def test_a_loaded_network_computes_the_same(tmp_path: Path) -> None:
    network = everything()
    network.save(tmp_path / "network")
    x = np.random.default_rng(1).integers(0, 256, (3, 4, 6, 6)).astype(np.uint8)
    ours, theirs = network.trace(x), Network.load(tmp_path / "network").trace(x)
    assert list(ours) == list(theirs)
    for name, codes in ours.items():
        assert np.array_equal(codes, theirs[name]), name


def _saved(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    everything().save(path)
    with safetensors.safe_open(path, "numpy") as file:
        return json.loads(file.metadata()["accelsim"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def assert_refused(change: Any, says: str, path: Path) -> None:
    """A saved network with `change` made to its header and its arrays is refused, in words that match `says`."""
    header, arrays = _saved(path)
    change(header, arrays)
    path.write_bytes(sealed(safetensors.numpy.save(arrays, {"accelsim": json.dumps(header)})))
    with pytest.raises(FormatError, match=says) as caught:
        Network.load(path)
    assert str(path) in str(caught.value)


def _change(*path: Any, to: Any) -> Any:
    def change(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        item = header
        for key in path[:-1]:
            item = item[key]
        item[path[-1]] = to

    return change


def _without_array(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    del arrays["dense.weights.codes"]


def _extra_field(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    header["nodes"][0]["surprise"] = 1


def _without_field(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    del header["nodes"][0]["stride"]


def _node(name: str, field: str, to: Any) -> Any:
    """A change of one field of the node of that name."""

    def change(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        (node,) = [node for node in header["nodes"] if node["name"] == name]
        assert field in node
        node[field] = to

    return change


def _value(name: str, field: str, to: Any, part: str = "") -> Any:
    def change(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        (value,) = [value for value in header["values"] if value["name"] == name]
        item = value[part] if part else value
        assert field in item
        item[field] = to

    return change


def _array(name: str, changed: Any) -> Any:
    def change(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        arrays[name] = np.ascontiguousarray(changed(arrays[name]))

    return change


def _first(to: Any) -> Any:
    """An array with another first element."""

    def changed(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array.flat[0] = to
        return array

    return changed


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_value("x", "scale", 0.0, "affine"), "value 'x': scale .0.*above 0"),
        (_value("x", "scale", -0.1, "affine"), "value 'x': scale"),
        (_value("x", "scale", float("nan"), "affine"), "NaN is no finite number"),
        (_value("x", "scale", float("inf"), "affine"), "Infinity is no finite number"),
        (_value("x", "scale", 1e-60, "affine"), "in binary32 too"),
        (_value("x", "zero_point", 256, "affine"), r"zero point 256 is no uint8 code \(0 to 255\)"),
        (_value("x", "zero_point", -1, "affine"), "zero point -1"),
        (_value("x", "shape", [1, 4, 0, 6]), "at least 1"),
        (_value("x", "order", [0, 1, 1, 2]), "does not name each of 4 axes once"),
        (_value("sum", "shape", [1, 4, 6, 7]), r"node 'sum': its value has shape \(1, 4, 6, 7\); .* \(1, 4, 6, 6\)"),
        (_value("cut", "zero_point", 8, "affine"), "node 'cut': a Slice keeps the affine map"),
        (_array("down.weights.codes", lambda a: a.astype(np.int16)), "node 'down': weights.codes is int16"),
        (_array("down.weights.codes", lambda a: a[:, :, :1]), "'down': its value has shape"),
        (_array("down.weights.codes", lambda a: a[:, 0]), "weights.codes has 3 axes"),
        (_array("down.weights.codes", lambda a: a.repeat(2, 1)), r"codes is int8 of shape \(4, 2, 2, 2\); expected"),
        (_array("up.weights.codes", lambda a: a[:2]), "'up': weights.codes"),
        (
            _array("up.weights.scale", lambda a: a[:1]),
            r"scale is float64 of shape \(1,\); expected float64 of shape \(2",
        ),
        (_array("up.weights.scale", lambda a: a.astype(np.float32)), "scale is float32"),
        (_array("up.weights.scale", _first(0.0)), "'up': weights.scale: scale .0"),
        (_array("up.weights.zero_point", _first(300)), "zero_point leaves the range of int8"),
        (_array("down.weights.bias", lambda a: a[1:]), r"bias is float32 of shape \(3,\); expected float32"),
        (_array("dense.weights.codes", lambda a: a[:, 1:]), r"'dense': weights.codes is int8 of shape \(3, 11\)"),
        (_array("dense.weights.codes", lambda a: a.ravel()), "'dense': weights.codes has shape"),
        (_node("down", "groups", 3), "2 input channels and weights .* in 3 groups"),
        (_node("down", "groups", 0), "in 0 groups"),
        (_node("down", "stride", [1, 0]), r"stride \(1, 0\): below 1"),
        (_node("down", "padding", [[0, 0]]), "padding .* for 2 axes"),
        (_node("down", "padding", [[0, 0], [-1, 1]]), "padding .*: below 0"),
        (_node("up", "output_padding", [1]), "output_padding"),
        (_array("look.tables", lambda a: a[:, :255]), r"tables is uint8 of shape \(2, 255\); expected .* \(2, 256\)"),
        (_array("look.tables", lambda a: a.astype(np.int32)), "tables is int32"),
        (_array("look.tables", lambda a: a[:0]), "has no table"),
        (_node("look", "spans", [[0, 64, 0], [64, 143, 1]]), "spans end at 143; its input has 144 elements"),
        (_node("look", "spans", [[0, 64, 0], [65, 144, 1]]), "65 to 144 does not go on from 64"),
        (_node("look", "spans", [[0, 64, 0], [64, 144, 2]]), "table 2 of 2"),
        (_node("look", "spans", []), "spans end at 0"),
        (_node("sum", "inputs", ["down"]), "'sum': reads 1 values; a Add reads 2"),
        (_node("sum", "inputs", ["down", "up"]), "do not broadcast"),
        (_node("sum", "row", 999), "row 999"),
        (_node("most", "kernel", [2, 2, 2]), r"kernel \(2, 2, 2\) for 2 axes"),
        (_node("mean", "kind", "median"), "kind 'median'; there are window, adaptive and mean"),
        (_node("mean", "divisor", 0), "divisor 0"),
        (_node("turned", "axes", [0, 2, 3, 3]), "axes"),
        (_node("cut", "stop", 9), "1:9:3 of an axis of 8"),
        (_node("cut", "step", 0), "1:8:0"),
        (_node("cut", "axis", 4), "axis 4 of a value of 4 axes"),
        (_node("beside", "axis", 4), "axis 4"),
        (_node("beside", "inputs", ["mean", "most"]), "along axis 1"),
        (_value("flat", "shape", [1, 13]), r"'flat': its value has shape \(1, 13\)"),
        (_node("windows", "size", 13), "windows of 13, 3 apart, of an axis of 12"),
        (_node("windows", "step", 0), "0 apart"),
        (_node("chosen", "indices", [0, 9, 1]), "indices leave an axis of 9"),
        (_node("chosen", "indices", [-1, 0, 1]), "indices leave"),
        (_node("squares", "inputs", ["chosen", "windows"]), "have no matrix product"),
        (_node("shares", "axis", 5), "axis 5"),
        (_node("groups", "groups", 3), "4 channels in 3 groups"),
        (_node("groups", "epsilon", -1.0), "epsilon -1.0"),
        (_node("rows", "axes", 0), "0 axes"),
        (_array("rows.bias", lambda a: a[1:]), r"bias is float32 of shape \(11, 9\)"),
        (_array("groups.weight", _first(np.nan)), "weight holds numbers that are not finite"),
        (
            _node("kept", "inputs", ["up", "up"]),
            r"a residual of shape \(1, 2, 7, 7\) for outputs of shape \(1, 4, 6, 6\)",
        ),
        (_node("kept", "inputs", ["look", "look"]), r"its layer reads \('up',\), itself \('look', 'look'\)"),
        (_node("kept", "inputs", ["up"]), "reads 1 values; a ResidualLayer reads 2"),
        (_value("large", "shape", [1, 5, 12, 9]), r"from its inputs follows \(1, 4, 12, 9\)"),
    ],
)
def test_contents_that_do_not_hold_together_are_refused(change: Any, says: str, tmp_path: Path) -> None:
    assert_refused(change, says, tmp_path / "network")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_change("format", to="accelsim-program"), "holds a 'accelsim-program'"),
        (_change("version", to=99), "version 99"),
        (_change("engine", to="gpu"), "unknown engine 'gpu'"),
        (_change("kernels", "aten", to="sse"), "damaged"),
        (_change("nodes", 0, "node", to="__import__"), "damaged"),
        (_change("nodes", 0, "inputs", to=["nothing"]), "nothing"),
        (_change("nodes", 3, "name", to="up"), "damaged"),
        (_change("nodes", 5, "kernel", to="wide"), "damaged"),
        (_change("values", 0, "affine", "dtype", to="int32"), "damaged"),
        (_change("values", 0, "shape", to=[1, "4", None]), "damaged"),
        (_change("outputs", to=["no such value"]), "no such value"),
        (_without_array, "dense.weights.codes"),
        (_extra_field, "surprise"),
        (_without_field, "stride"),
    ],
)
def test_a_wrong_header_is_refused(change: Any, says: str, tmp_path: Path) -> None:
    assert_refused(change, says, tmp_path / "network")


def test_the_header_as_it_is_is_accepted(tmp_path: Path) -> None:
    # What the changes above are made to: without one the same way of writing gives a good file.
    header, arrays = _saved(tmp_path / "network")
    (tmp_path / "copy").write_bytes(sealed(safetensors.numpy.save(arrays, {"accelsim": json.dumps(header)})))
    assert_same(Network.load(tmp_path / "copy"), everything())


def test_cut_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "network"
    everything().save(path)
    whole = path.read_bytes()
    for length in (0, 1, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(FormatError, match=str(path)):
            Network.load(path)
    path.write_bytes(safetensors.numpy.save({"a": np.zeros(3)}))
    with pytest.raises(FormatError, match="not a saved network"):
        Network.load(path)
    with pytest.raises(FormatError, match="no such file"):
        Network.load(tmp_path / "nothing")


def test_loading_runs_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "ran"

    class Harmful:
        def __reduce__(self) -> Any:
            return Path.touch, (mark,)

    path = tmp_path / "network"
    path.write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(FormatError):
        Network.load(path)
    assert not mark.exists()
    pickle.loads(path.read_bytes())  # the file would have done harm
    assert mark.exists()


def test_a_graph_must_be_whole() -> None:
    network = everything()
    with pytest.raises(ModelError, match="'up' reads 'x', which no node before it produces"):
        replace(network, inputs=())
    with pytest.raises(ModelError, match="no node before it"):
        replace(network, nodes=network.nodes[::-1])
    with pytest.raises(ModelError, match="two nodes are named 'up'"):
        replace(network, nodes=(*network.nodes, network.nodes[0]))
    with pytest.raises(ModelError, match="'sum' has no shape"):
        replace(network, values={name: value for name, value in network.values.items() if name != "sum"})
    with pytest.raises(ModelError, match=r"no layer is named 'conv9'; the layers are up, down"):
        network.node("conv9")


def test_every_bit_of_a_saved_network_counts(tmp_path: Path) -> None:
    path = tmp_path / "network"
    everything().save(path)
    whole = path.read_bytes()
    for place in np.random.default_rng(0).choice(8 * len(whole), 1000, replace=False):
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << int(place) % 8
        path.write_bytes(changed)
        with pytest.raises(FormatError, match=r"network: |network; "):
            Network.load(path)


def test_a_flipped_bit_is_called_damage_and_an_older_format_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "network"
    everything().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(FormatError, match="damaged: its checksum differs, so some bit has changed; write it again"):
        Network.load(path)
    path.write_bytes(whole.replace(b'\\"version\\": 3', b'\\"version\\": 2'))
    with pytest.raises(FormatError, match="version 2 of the format; this release reads 3: write it again"):
        Network.load(path)


@pytest.mark.parametrize("path", ["/dev/zero", "a\0b", "\ud800", "/"])
def test_what_is_no_file_is_refused(path: str) -> None:
    with pytest.raises(FormatError):
        Network.load(path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FormatError, match="a pipe, not a file"):
        Network.load(tmp_path / "pipe")


def _doubling(times: int) -> Network:
    affine = Affine(0.1, 7, "uint8")
    nodes = [Concatenate(f"c{i}", (f"c{i - 1}" if i else "x",) * 2, 1) for i in range(times)]
    values = {name: Value(name, (1, 1 << i), affine, (0, 1)) for i, name in enumerate(["x", *(n.name for n in nodes)])}
    return Network("fbgemm", KernelSet("avx2", "vnni"), values, tuple(nodes), ("x",), (nodes[-1].name,), "n")


def test_thirty_doublings_are_refused_before_they_are_made() -> None:
    small = _doubling(3)
    assert small.run(np.array([[5]], np.uint8))[0].quantized.tolist() == [[5] * 8]
    with pytest.raises(ModelError, match=r"all its values together takes 2,147,483,647 bytes; .*--limit memory="):
        _doubling(30).run(np.array([[5]], np.uint8))
    with pytest.raises(ModelError, match=r"limits=Limits\(operations="):
        _doubling(16).run(np.array([[5]], np.uint8), limits=Limits(operations=1))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_value("x", "shape", [True, 4, 6, 6]), "written"),
        (_value("x", "shape", [1, 4, 6, "6"]), "written"),
        (_value("x", "zero_point", 7.0, "affine"), "written"),
        (_value("x", "shape", [1 << 40, 4, 6, 6]), "more than 1,099,511,627,776 elements"),
        (_value("x", "shape", [1] * 30), "30 axes; 24 at most"),
        (_node("sum", "row", 5), "no whole number of rows"),
        (_node("most", "padding", [[0, 2], [1, 0]]), "nothing but padding"),
        (_node("mean", "stride", [1 << 31, 1]), "above 2,147,483,647"),
        (_node("cut", "step", 1 << 31), "of an axis of 8"),
        (_node("large", "factors", [1e-30, None]), "do not bring"),
        (_change("inputs", to=["x", "x"]), "an input is named twice"),
        (_change("outputs", to=[]), "it has no output"),
        (_change("notes", to=[7]), "7 is no name"),
        (_change("surprise", to=1), "surprise"),
    ],
)
def test_what_would_be_read_past_is_refused(change: Any, says: str, tmp_path: Path) -> None:
    assert_refused(change, says, tmp_path / "network")


def test_an_array_that_nothing_names_is_refused(tmp_path: Path) -> None:
    def change(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        arrays["surprise"] = np.zeros(3)

    assert_refused(change, "array 'surprise'", tmp_path / "network")
