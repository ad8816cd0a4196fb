"""Names of layers and keys that mean something in C, in a path or in an archive mean nothing there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from accelsim.export import network_bundle, tensors_bundle, write
from accelsim.export.names import Distinct, Identifiers

from ..report.builders import linear_network

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler on this machine")
KEYS = [
    *("int", "main", "linux", "int8_t", "INT8_MAX", "_Bool", "__attribute__", "a", "A", "a.b", "a_b", "a_b_2", "file"),
    *("../../x", "/x", "*/ int evil; /*", "x\\\nint evil2;", "x??/\nint evil3;", "\0", "\ud800", "", "y" * 400, "ü"),
]
ARRAYS: dict[str, np.ndarray] = {
    **{key: np.array([index, -1], np.int8) for index, key in enumerate(KEYS)},
    "least64": np.array([-(2**63), 2**63 - 1, 0], np.int64),
    "least32": np.array([[-(2**31)], [2**31 - 1]], np.int32),
    "most64": np.array([2**64 - 1], np.uint64),
    "most16": np.array(2**16 - 1, np.uint16),
    "nothing": np.zeros((0, 3), np.int8),
    "real": np.array([np.nan, np.inf, 1.5], np.float32),
    "truth": np.array([True, False]),
}


def compiled(source: Path, *flags: str) -> str:
    """What a program writes to stdout."""
    command = [str(COMPILER), "-std=c99", "-Wall", "-Wextra", "-Werror", "-Wno-unused", *flags, str(source)]
    build = subprocess.run([*command, "-o", str(source.with_suffix(""))], capture_output=True, text=True, check=False)
    assert build.returncode == 0, build.stderr
    return subprocess.run([str(source.with_suffix(""))], capture_output=True, text=True, check=True).stdout


@needs_compiler
def test_a_header_of_hostile_names_declares_its_arrays_and_nothing_else(tmp_path: Path) -> None:
    title = "net */ int evil(void) { return 1; } /* \\\nint evil(void) { return 1; } ??/\n\u2028"
    written = write(tensors_bundle(title, ARRAYS), "c", tmp_path / "net.h")
    text = (tmp_path / "net.h").read_text(encoding="ascii")
    declared = re.findall(r"^static const \w+ (\w+)", text, re.MULTILINE)
    assert len(declared) == len(set(declared)) == len(ARRAYS) - 3
    assert "evil" not in re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL).replace("int_evil", "")
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include "net.h"\n'
        'int main(void) { printf("%lld %lld %d %d %llu %d %d", (long long)least64[0], (long long)least64[1], '
        "least32[0][0], least32[1][0], (unsigned long long)most64[0], most16, n_int_[0]); }\n"
    )
    shown = compiled(tmp_path / "main.c", "-trigraphs")
    assert shown == f"{-(2**63)} {2**63 - 1} {-(2**31)} {2**31 - 1} {2**64 - 1} {2**16 - 1} 0"
    items = {item["name"]: item for item in json.loads(written[-1].read_text())["tensors"]}
    assert items["nothing"]["values"] == []
    assert items["real"]["values"] == ["NaN", "Infinity", 1.5]
    assert items["truth"]["values"] == [True, False]


@needs_compiler
def test_a_network_of_hostile_names_makes_a_header_that_compiles(tmp_path: Path) -> None:
    network = linear_network()
    # a with the role `centred_weight`, and a_centred with the role `weight`, want one identifier.
    names = {"x": "a_centred_weight_ZERO", "fc1": "a", "fc2": "a_centred"}
    values = {names[name]: replace(value, name=names[name]) for name, value in network.values.items()}
    nodes = [
        replace(
            node,
            name=names[node.name],
            inputs=(names[node.inputs[0]],),
            weights=replace(node.weights, zero_point=node.weights.zero_point + 3),
        )
        for node in network.nodes
    ]
    odd = replace(
        network, values=values, nodes=tuple(nodes), inputs=(names["x"],), outputs=("a_centred",), name="x\\\n*/ evil"
    )
    write(network_bundle(odd), "c", tmp_path / "net.h")
    (tmp_path / "main.c").write_text('#include "net.h"\nint main(void) { return a_requantize(0, 0) < 0; }\n')
    assert compiled(tmp_path / "main.c") == ""
    declared = re.findall(r"^static (?:const|inline) \w+ (\w+)", (tmp_path / "net.h").read_text(), re.MULTILINE)
    assert len(declared) == len(set(declared))


@pytest.mark.parametrize("format", ["npz", "safetensors", "mem"])
def test_every_array_is_found_by_its_manifest_and_no_name_is_a_path(format: str, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "er" / "net"
    out.parent.mkdir(parents=True)
    written = write(tensors_bundle("\ud800", ARRAYS), format, out)
    assert {path.parent for path in tmp_path.rglob("*") if path.is_file()} == {out if format == "mem" else out.parent}
    entries = json.loads(written[-1].read_text())["tensors"]
    assert len(entries) == len(ARRAYS)
    if format == "mem":
        files = [item["file"] for item in entries]
        assert len({file.casefold() for file in files}) == len(ARRAYS)
        for item, array in zip(entries, ARRAYS.values(), strict=True):
            head, *words = (out / item["file"]).read_text(encoding="ascii").splitlines()
            assert head.startswith("// ")
            assert len(words) == array.size
        return
    stored = dict(np.load(out)) if format == "npz" else safetensors.numpy.load_file(out)
    for item, array in zip(entries, ARRAYS.values(), strict=True):
        assert np.array_equal(stored[item.get("key", item["name"])], array, equal_nan=array.dtype.kind == "f")
    if format == "npz":
        assert not [name for name in stored if re.search(r"[/\\\0]", name)]


def test_identifiers_that_c_has_for_itself_are_changed() -> None:
    names = Identifiers()
    assert [names.of(name) for name in ("int", "_Bool", "__x", "size_t", "conv1", "_1")] == [
        *("n_int_", "n__Bool_", "n___x_", "n_size_t_", "conv1", "_1")
    ]
    # Where files are made of them, upper and lower case may be one.
    assert [names.of("a", "b"), names.of("a_b"), names.of("a", "b"), names.of("A_b")][1:] == ["a_b_2", "a_b", "A_b_3"]


def test_many_names_that_become_one_stay_distinct_and_quick() -> None:
    distinct = Distinct()
    given = [distinct.of("x") for _ in range(50_000)]
    assert len(set(given)) == 50_000
