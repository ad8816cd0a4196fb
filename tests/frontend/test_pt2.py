"""Quantised graphs in .pt2 files: the same networks as of the live graphs, and no file that gets anything executed."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from accelsim import Accelerator, AccelsimError, Network, extract, verify
from accelsim.errors import FormatError, InputError, ModelError

from ..cli.calling import EDGE, call
from .checkpoints import archive, entries
from .exported_graphs import GRAPHS, Graph, Layer, Y, dequantize, exported, image, quantize

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")

#: Several kinds of layers, residuals, tables, movements and pools.
NAMES = (
    "depthwise",
    "two layers",
    "pooled before it is quantised",
    "residual with relu",
    "concatenation",
    "a table",
    "movements",
)


def saved(folder: Path, name: str = "two layers") -> Path:
    """The graph of that name as torch.export.save writes it, with the example input that it was exported with."""
    shape, make = GRAPHS[name]
    with torch.no_grad():
        program = torch.export.export(make(), (image(3, shape),))
    torch.export.save(program, folder / "graph.pt2")
    return folder / "graph.pt2"


def changed(path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The archive with other entries; their names are without the common folder."""
    folder = path.stem
    parts = {name.removeprefix(f"{folder}/"): content for name, content in entries(path.read_bytes()).items()}
    change(parts)
    path.write_bytes(archive({f"{folder}/{name}": content for name, content in parts.items()}))
    return path


def with_document(path: Path, change: Callable[[Any], None], entry: str = "models/model.json") -> Path:
    """The archive with another JSON."""

    def edit(parts: dict[str, bytes]) -> None:
        document = json.loads(parts[entry])
        change(document)
        parts[entry] = json.dumps(document).encode()

    return changed(path, edit)


def with_graph(path: Path, change: Callable[[Any], None]) -> Path:
    """The archive with another graph."""
    return with_document(path, lambda document: change(document["graph_module"]["graph"]))


def same(one: Network, other: Network, x: torch.Tensor) -> None:
    """The networks have the same values, nodes and parameters by name, and compute the same."""
    assert (one.engine, one.inputs, one.outputs, one.values) == (
        other.engine,
        other.inputs,
        other.outputs,
        other.values,
    )
    assert [(type(node), node.name, node.inputs) for node in one.nodes] == [
        (type(node), node.name, node.inputs) for node in other.nodes
    ]
    for mine, theirs in zip(one.run(x), other.run(x), strict=True):
        assert np.array_equal(mine.quantized, theirs.quantized)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_the_network_of_its_live_graph(name: str, tmp_path: Path) -> None:
    shape, make = GRAPHS[name]
    x = image(3, shape)
    network = extract(saved(tmp_path, name))
    same(network, extract(exported(make(), shape), x), x)
    assert (network.name, network.engine) == ("graph", "pt2e")
    same(network, extract(str(tmp_path / "graph.pt2"), x.numpy()), x)


def test_every_sub_command_takes_it_and_verify_finds_what_the_kernels_make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path)
    monkeypatch.chdir(tmp_path)
    x = image(4, GRAPHS["two layers"][0])
    np.save("x.npy", x.numpy())
    for more in ([], ["--input", "x.npy"]):
        document = json.loads(call("verify", path, *more, "--json").out)
        assert (document["engine"], document["mismatches"]) == ("pt2e", 0)
        assert document["compared"] > 400
    verification = verify(path, x, Accelerator.from_yaml("edge_16x16"))
    assert (verification.engine, verification.mismatches) == ("pt2e", 0)
    ran = json.loads(call("run", EDGE, path, "--input", "x.npy", "--json").out)
    assert ran["outputs"][0]["codes"] == extract(path).run(x)[0].quantized.tolist()
    assert json.loads(call("extract", path, "--json", "--out", "n.accelsim").out)["network"] == "graph"
    same(Network.load("n.accelsim"), extract(path), x)
    for words in (
        ["compile", EDGE, path, "--out", "p.bin"],
        ["certify", path],
    ):
        assert call(*words).status == 0, words
    wrong = call("extract", path, "--engine", "fbgemm")
    assert wrong.status == 1
    assert "'pt2e'" in wrong.err


def test_sizes_that_are_not_fixed_are_the_examples(tmp_path: Path) -> None:
    graph = Graph(lambda x, a: torch.flatten(a(x), 1).view(x.shape[0], -1), Layer(12, (4, 6, 3, 3)))
    batch = ({0: torch.export.Dim("batch", min=1, max=64)},)
    with torch.no_grad():
        program = torch.export.export(graph, (image(3, Y),), dynamic_shapes=batch)
    path = tmp_path / "dynamic.pt2"
    torch.export.save(program, path)
    for count in (2, 5):
        x = image(5, (count, *Y[1:]))
        network = extract(path, x)
        assert network.values[network.inputs[0]].shape == (count, *Y[1:])
        same(network, extract(graph, x), x)
    with pytest.raises(InputError, match=r"shape \(2, 6, 9, 8\); the file says float32 of shape \('any', 6, 9, 7\)"):
        extract(path, image(5, (2, 6, 9, 8)))
    # Without an example in the file, the size at which it was exported.
    changed(path, lambda parts: parts.pop("data/sample_inputs/model.pt"))
    network = extract(path)
    assert network.values[network.inputs[0]].shape == Y


def test_what_an_example_does_not_fit_is_said(tmp_path: Path) -> None:
    path = saved(tmp_path, "linear")
    with pytest.raises(InputError, match=r"float64 of shape \(5, 33\); the file says float32"):
        extract(path, np.zeros((5, 33)))
    with pytest.raises(InputError, match=r"2 inputs; the program in .* takes 1 \(x\)"):
        extract(path, (np.zeros((5, 33), np.float32),) * 2)
    with pytest.raises(InputError, match="the file says"):
        extract(path, np.zeros((6, 33), np.float32))


# Files that somebody made to do harm


class Harm:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        import os

        return os.mkdir, (str(self.path),)


def pickled(item: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(item, stream)
    return stream.getvalue()


def refused(path: Path, said: str, kind: type[AccelsimError] = FormatError) -> None:
    """Python and the command line refuse the file, name it, and nothing of it was run."""
    with pytest.raises(kind, match=said) as error:
        extract(path)
    assert str(path) in str(error.value)
    called = call("extract", path)
    assert called.status in (1, 2)
    assert called.err.startswith(f"error: {path}")
    assert not (path.parent / "harm").exists()


def test_a_pickle_in_the_place_of_the_example_is_not_run(tmp_path: Path) -> None:
    for item in (Harm(tmp_path / "harm"), ((torch.zeros(2, 6, 9, 7), Harm(tmp_path / "harm")), {})):
        path = saved(tmp_path)
        changed(path, lambda parts, item=item: parts.update({"data/sample_inputs/model.pt": pickled(item)}))
        refused(path, "a pickle that names 'posix.mkdir'")
        # It is refused, too, where the example is not needed.
        with pytest.raises(FormatError, match="posix"):
            extract(path, image(3, Y))
    plain = pickle.dumps(Harm(tmp_path / "harm"))
    refused(
        changed(saved(tmp_path), lambda parts: parts.update({"data/sample_inputs/model.pt": plain})),
        "none of the archives that PyTorch writes",
    )


def test_a_pickle_in_the_place_of_a_weight_is_not_run(tmp_path: Path) -> None:
    path = saved(tmp_path)

    def plant(parts: dict[str, bytes]) -> None:
        config = json.loads(parts["data/weights/model_weights_config.json"])
        first = next(iter(config["config"].values()))
        first["use_pickle"] = True
        parts[f"data/weights/{first['path_name']}"] = pickled(Harm(tmp_path / "harm"))
        parts["data/weights/model_weights_config.json"] = json.dumps(config).encode()

    refused(changed(path, plant), "stored as a pickle, which executes code and is never read", ModelError)


def test_expressions_in_a_file_are_not_evaluated(tmp_path: Path) -> None:
    path, code = saved(tmp_path), f"__import__('os').mkdir({str(tmp_path / 'harm')!r})"

    def edit(document: Any) -> None:
        expression = {"as_expr": {"expr_str": code, "hint": {"as_int": 2}}}
        document["guards_code"] = [code]
        document["range_constraints"] = {code: {"min_val": 0, "max_val": 9}}
        for meta in document["graph_module"]["graph"]["tensor_values"].values():
            meta["sizes"][0] = expression

    assert extract(with_document(path, edit)).name == "graph"
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "./inside", "/absolute", "back\\slash"])
def test_entries_outside_of_the_archive_are_refused(name: str, tmp_path: Path) -> None:
    refused(changed(saved(tmp_path), lambda parts: parts.update({name: b""})), "lies outside of the archive")
    path = saved(tmp_path)

    def point(config: Any) -> None:
        next(iter(config["config"].values()))["path_name"] = name

    refused(with_document(path, point, "data/weights/model_weights_config.json"), "has no entry")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("torch.ops.aten.from_file.default", "aten.from_file is not among the operators that are run"),
        ("torch.ops.aten._index_put_impl_.default", "is not among the operators"),
        ("torch.ops.aten._reshape_alias.default", "is not among the operators"),
        ("torch.ops.aten.rand_like.default", "is not among the operators"),
        ("torch.ops.aten.relu.out", "is not among the operators"),
        ("torch.ops.aten.no_such_operator.default", "this PyTorch .* has no such operator"),
        ("torch.ops.load_library", "is no operator of PyTorch on tensors"),
        ("torch.ops.higher_order.cond", "is no operator of PyTorch on tensors"),
        ("posix.system", "is no operator of PyTorch on tensors"),
        ("builtins.exec", "is no operator of PyTorch on tensors"),
    ],
)
def test_a_file_names_no_other_operator_than_those_listed(target: str, said: str, tmp_path: Path) -> None:
    path = with_graph(saved(tmp_path), lambda graph: graph["nodes"][3].update({"target": target}))
    refused(path, said, AccelsimError)


def renamed(node: int, name: str) -> Callable[[Any], None]:
    """An edit: the first argument of a node is the value of that name."""

    def edit(graph: Any) -> None:
        graph["nodes"][node]["inputs"][0]["arg"] = {"as_tensor": {"name": name}}

    return edit


def test_references_that_lead_nowhere_or_back_are_refused(tmp_path: Path) -> None:
    refused(with_graph(saved(tmp_path), renamed(2, "absent")), "reads 'absent', which is no input")
    path = saved(tmp_path)
    last = json.loads(entries(path.read_bytes())["graph/models/model.json"])["graph_module"]["graph"]["nodes"][-1][
        "name"
    ]
    refused(with_graph(path, renamed(2, last)), r"which is no input.*\(a cycle, or a missing part\)")

    def twice(graph: Any) -> None:
        graph["nodes"][3]["outputs"] = graph["nodes"][2]["outputs"]

    refused(with_graph(saved(tmp_path), twice), "which there is already")

    def nothing(document: Any) -> None:
        document["graph_module"]["signature"]["output_specs"][0]["user_output"]["arg"]["as_tensor"]["name"] = "absent"

    refused(with_document(saved(tmp_path), nothing), "nothing makes its output 'absent'")


def test_shapes_that_lie_are_refused(tmp_path: Path) -> None:
    config, size = "data/weights/model_weights_config.json", {"as_int": 1000}

    def weight(document: Any) -> None:
        next(iter(document["config"].values()))["tensor_meta"]["sizes"][0] = size

    refused(with_document(saved(tmp_path), weight, config), r"has the shape .*1000.* bytes are stored")

    def repeated(document: Any) -> None:
        meta = next(iter(document["config"].values()))["tensor_meta"]
        meta["sizes"], meta["strides"] = [{"as_int": 2**40}, {"as_int": 2**40}], [{"as_int": 0}, {"as_int": 0}]

    refused(with_document(saved(tmp_path), repeated, config), "repeats its elements")

    def result(graph: Any) -> None:
        graph["tensor_values"][graph["nodes"][3]["outputs"][0]["as_tensor"]["name"]]["sizes"][0] = size

    refused(with_graph(saved(tmp_path), result), r"node .*: .* of shape .*, and the file says .*\(1000,")

    def taken(graph: Any) -> None:
        graph["tensor_values"]["x"]["sizes"][0] = size

    with pytest.raises(InputError, match=r"the file says float32 of shape \(1000, 6, 9, 7\)"):
        extract(with_graph(saved(tmp_path), taken))
    for wrong in (-1, 2**70, 1.5, "2", None, True):

        def odd(graph: Any, wrong: Any = wrong) -> None:
            graph["tensor_values"]["x"]["sizes"][0] = {"as_int": wrong}

        refused(with_graph(saved(tmp_path), odd), "stands in the place of a size")


def test_a_small_file_asks_for_no_large_memory(tmp_path: Path) -> None:
    """Padding of the input to 10^12 elements: its shapes are found without making any of it."""

    def bomb(document: Any) -> None:
        graph = document["graph_module"]["graph"]
        made = graph["nodes"][-1]["outputs"][0]["as_tensor"]["name"]
        pad = {"name": "pad", "arg": {"as_ints": [0, 10**12]}, "kind": 1}
        graph["nodes"][-1]["outputs"][0]["as_tensor"]["name"] = "before"
        graph["tensor_values"]["before"] = json.loads(json.dumps(graph["tensor_values"][made]))
        graph["tensor_values"][made]["sizes"][-1] = {"as_int": 10**12 + 10}
        source = {"name": "self", "arg": {"as_tensor": {"name": "before"}}, "kind": 1}
        graph["nodes"].append(
            {
                "target": "torch.ops.aten.constant_pad_nd.default",
                "inputs": [source, pad],
                "outputs": [{"as_tensor": {"name": made}}],
                "metadata": {},
                "name": made,
            }
        )

    refused(with_document(saved(tmp_path), bomb), "take more memory than a file of", ModelError)


def test_kernels_get_no_argument_that_they_do_not_check(tmp_path: Path) -> None:
    """Resizing by 10^-30: the kernel would read before the beginning of its operand."""
    graph = Graph(lambda x: torch.nn.functional.interpolate(x, scale_factor=2.0, mode="nearest"))
    with torch.no_grad():
        torch.export.save(torch.export.export(graph, (image(3, Y),)), tmp_path / "resize.pt2")
    path = tmp_path / "resize.pt2"

    def scale(document: Any) -> None:
        for node in document["graph_module"]["graph"]["nodes"]:
            for item in node["inputs"]:
                if "upsample" in node["target"] and "as_floats" in item["arg"]:
                    item["arg"]["as_floats"] = [1e-30, 1e-30]

    refused(with_document(path, scale), "resizes by a factor of 1e-30")


def test_archives_that_are_cut_or_of_another_kind_are_refused(tmp_path: Path) -> None:
    whole = saved(tmp_path).read_bytes()
    path = tmp_path / "cut.pt2"
    for length in range(0, len(whole), len(whole) // 12):
        path.write_bytes(whole[:length])
        with pytest.raises(FormatError):
            extract(path)
        assert call("extract", path).status in (1, 2)
    for entry in ("models/model.json", "data/weights/weight_0", "data/weights/model_weights_config.json", "byteorder"):
        path = changed(saved(tmp_path), lambda parts, entry=entry: parts.pop(entry))
        refused(path, "has no entry|in an older form", AccelsimError)
    path.write_bytes(archive(entries(whole), kind=8))
    refused(path, "compressed")
    changed(saved(tmp_path), lambda parts: parts.update({"data/weights/model.pt": b""}))
    refused(path, "its weights are stored as one pickle", ModelError)
    path.write_bytes(archive({"serialized_exported_program.json": b"{}", "version": b"7"}))
    refused(path, "in an older form", ModelError)
    with_document(saved(tmp_path), lambda document: document["schema_version"].update({"major": 9}))
    refused(path, "schema 9 of torch.export; 8 is read", ModelError)


@pytest.mark.parametrize("count", [40, pytest.param(600, marks=pytest.mark.full)])
def test_whatever_stands_in_its_json_is_read_or_refused(count: int, tmp_path: Path) -> None:
    path = saved(tmp_path)
    whole = entries(path.read_bytes())
    chance = random.Random(count)
    values: list[Any] = [None, -1, 0, 2**70, 0.5, "x", "", [], {}, True, {"as_int": 3}, {"as_none": True}]
    for _ in range(count):
        name = chance.choice(["graph/models/model.json", "graph/data/weights/model_weights_config.json"])
        document = json.loads(whole[name])
        place: Any = document
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = chance.choice([key for key in keys if key not in ("metadata", "module_call_graph")] or keys)
            inner = place[key]
            if not isinstance(inner, dict | list) or not inner or chance.random() < 0.05:
                break
            place = inner
        place[key] = chance.choice(values)
        path.write_bytes(archive({**whole, name: json.dumps(document).encode()}))
        with contextlib.suppress(AccelsimError):  # and nothing else
            extract(path)


def test_the_codes_are_those_of_pytorchs_own_operators(tmp_path: Path) -> None:
    """A graph without a layer is exact in PyTorch's own run: the file's network gives its codes."""
    grid = (2.0**-4, 30)
    graph = Graph(lambda x: torch.relu(x), out=grid)
    with torch.no_grad():
        torch.export.save(torch.export.export(graph, (image(3, Y),)), tmp_path / "relu.pt2")
    x = image(9, Y)
    (output,) = extract(tmp_path / "relu.pt2").run(x)
    expected = quantize(torch.relu(dequantize(quantize(x, (0.25, 77)), (0.25, 77))), grid)
    assert np.array_equal(output.quantized, expected.numpy())
