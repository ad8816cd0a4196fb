"""ONNX files that cannot be read are refused by name; damaged and hostile ones without harm, cost or traceback."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import accelsim
from accelsim.cli.application import application
from accelsim.errors import AccelsimError, FormatError, InputError, ModelError
from accelsim.frontend import packages
from accelsim.frontend.onnx import container

pytest.importorskip("onnx", reason="reads ONNX files: pip install accelsim[onnx]")

import onnx
import onnx_graphs as graphs
from onnx_graphs import Affine, Model

GRID = Affine(0.05, 100, "uint8")


def _started(shape: Any = (1, 4, 6, 6)) -> tuple[Model, str]:
    model = Model()
    return model, model.both(model.input("x", list(shape)), GRID)


def _weights(model: Model, shape: tuple[int, ...] = (3, 4, 1, 1), **attributes: Any) -> str:
    return model.parameter(np.ones(shape, np.int8), 0.01, **attributes)


def _conv(model: Model, x: str) -> str:
    return model.both(model.node("Conv", x, _weights(model)), GRID)


def _float_weights(model: Model, x: str) -> str:
    return model.both(model.node("Conv", x, model.constant(np.ones((3, 4, 1, 1), np.float32))), GRID)


def _wrong_bias(model: Model, x: str) -> str:
    bias = model.parameter(np.ones(3, np.int32), 0.3)
    return model.both(model.node("Conv", x, _weights(model), bias), GRID)


def _two_pairs(model: Model, x: str) -> str:
    return model.both(x, Affine(0.1, 3, "uint8"))


def _unquantized(model: Model, x: str) -> str:
    return model.node("Conv", x, _weights(model))


def _softmax(model: Model, x: str) -> str:
    return model.both(model.node("Softmax", x), GRID)


def _reinterpreted(model: Model, x: str) -> str:
    codes = model.quantize(model.node("Neg", x), GRID)
    return model.dequantize(codes, Affine(0.2, 100, "uint8"))


def _sub_of_two(model: Model, x: str) -> str:
    return model.both(model.node("Sub", x, model.node("Relu", x)), GRID)


def _two_activations(model: Model, x: str) -> str:
    return model.both(model.node("MatMul", x, model.node("Transpose", x, perm=[0, 1, 3, 2])), GRID)


def _int16(model: Model, x: str) -> str:
    codes = model.node("QuantizeLinear", x, model.constant(np.float32(0.1)), model.constant(np.int16(0)))
    return model.node("DequantizeLinear", codes, model.constant(np.float32(0.1)), model.constant(np.int16(0)))


def _several_scales(model: Model, x: str) -> str:
    operands = [model.constant(np.full(4, 0.1, np.float32)), model.constant(np.zeros(4, np.uint8))]
    return model.node("DequantizeLinear", model.node("QuantizeLinear", model.node("Neg", x), *operands), *operands)


def _huge_pad(model: Model, x: str) -> str:
    return model.both(model.node("Conv", x, _weights(model), pads=[2**40, 0, 0, 0]), GRID)


def _many_elements(model: Model, x: str) -> str:
    codes = model.quantize(model.node("Neg", x), GRID)
    for _ in range(30):
        codes = model.node("Concat", codes, codes, axis=0)
    return model.dequantize(codes, GRID)


def _constant_of_shape(model: Model, x: str) -> str:
    shape = model.constant(np.array([2**40], np.int64))
    return model.both(model.node("Add", x, model.node("ConstantOfShape", shape)), GRID)


def _doubling_constants(model: Model, x: str) -> str:
    value = model.constant(np.ones(1 << 12, np.float32))
    for _ in range(40):
        value = model.node("Concat", value, value, axis=0)
    return model.both(model.node("Add", x, value), GRID)


def _outer_product(model: Model, x: str) -> str:
    a, b = (model.constant(np.ones(shape, np.float32)) for shape in ((1 << 12, 1), (1, 1 << 12)))
    return model.both(model.node("Add", x, model.node("Mul", a, b)), GRID)


def _attribute_of_graph(model: Model, x: str) -> str:
    branch = Model()
    branch.node("Identity", x)
    body = onnx.helper.make_graph(branch.nodes, "body", [], [])
    condition = model.constant(np.array(True))
    return model.node("If", condition, then_branch=body, else_branch=body)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_float_weights, ["Conv_2", "weights are float", "quantise them"]),
        (_wrong_bias, ["Conv_", "the scale of its bias", "leave it float"]),
        (_two_pairs, ["QuantizeLinear_2", "two pairs", "leave one of them out"]),
        (_unquantized, ["output", "not quantised", "end the model in a QuantizeLinear"]),
        (_softmax, ["Softmax_2", "not read"]),
        (_reinterpreted, ["DequantizeLinear_4", "scale=0.05", "scale=0.2"]),
        (_sub_of_two, ["Sub_3", "not quantised"]),
        (_two_activations, ["MatMul_3", "depend on the inputs"]),
        (_int16, ["QuantizeLinear_2", "int16", "uint8 or int8"]),
        (_several_scales, ["QuantizeLinear_3", "several scales", "per tensor"]),
        (_huge_pad, ["Conv_3", "pads"]),
        (_many_elements, ["elements"]),
        (_constant_of_shape, ["ConstantOfShape", "elements"]),
        (_doubling_constants, ["Concat", "too many elements"]),
        (_outer_product, ["Mul", "too many elements"]),
        (_attribute_of_graph, ["If", "graph"]),
    ],
)
def test_what_no_integers_stand_for_is_refused_by_name(
    make: Callable[[Model, str], str], words: list[str], tmp_path: Path
) -> None:
    model, x = _started()
    result = make(model, x)
    model.outputs.append(onnx.helper.make_tensor_value_info(result, graphs.FLOAT, None))
    path = model.save(tmp_path / "refused.onnx")
    with pytest.raises(ModelError) as refused:
        accelsim.extract(path)
    for word in words:
        assert word in str(refused.value)


def _valid(tmp_path: Path) -> Any:
    model, x = _started()
    model.output(_conv(model, x))
    return model.proto()


def _cycle(proto: Any) -> None:
    proto.graph.node[0].input[0] = proto.graph.node[-1].output[0]


def _missing_initialiser(proto: Any) -> None:
    del proto.graph.initializer[0]


def _made_twice(proto: Any) -> None:
    proto.graph.node[1].output[0] = proto.graph.node[0].output[0]


def _fewer_bytes(proto: Any) -> None:
    proto.graph.initializer[-1].dims[:] = [1000]


def _negative_size(proto: Any) -> None:
    proto.graph.initializer[0].dims[:] = [-1, -1]


def _overflowing_size(proto: Any) -> None:
    proto.graph.initializer[0].dims[:] = [2**62, 4]


def _many_axes(proto: Any) -> None:
    for tensor in proto.graph.initializer:
        tensor.dims[:] = [1] * 65 + list(tensor.dims)


def _unknown_domain(proto: Any) -> None:
    proto.graph.node[0].domain = "evil"


def _old(proto: Any) -> None:
    proto.opset_import[0].version = 9


def _future(proto: Any) -> None:
    proto.opset_import[0].version = 999


def _no_output(proto: Any) -> None:
    del proto.graph.output[:]


def _unmade_output(proto: Any) -> None:
    proto.graph.output[0].name = "nothing\x1b[31m"


def _sequence_input(proto: Any) -> None:
    proto.graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = 1


def _negative_input(proto: Any) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -4


def _lying_input(proto: Any) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 5


def _infinite_scale(proto: Any) -> None:
    for tensor in proto.graph.initializer:
        if tensor.data_type == 1:
            tensor.raw_data = np.float32(np.inf).tobytes()


def _no_operands(proto: Any) -> None:
    del proto.graph.node[-1].input[:]


def _external(location: str, **fields: Any) -> Callable[[Any], None]:
    def change(proto: Any) -> None:
        tensor = next(item for item in proto.graph.initializer if item.data_type == 3 and item.dims)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in {"location": location, **fields}.items():
            tensor.external_data.add(key=key, value=str(value))

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_cycle, "cycle"),
        (_missing_initialiser, "missing part"),
        (_made_twice, "already"),
        (_fewer_bytes, "1000"),
        (_negative_size, "(-1, -1)"),
        (_overflowing_size, "elements"),
        (_many_axes, "axes"),
        (_unknown_domain, "'evil'"),
        (_old, "operator set 9"),
        (_future, "update it"),
        (_no_output, "no output"),
        (_unmade_output, "nothing makes"),
        (_sequence_input, "no tensor"),
        (_negative_input, "-4"),
        (_lying_input, "5 input channels"),
        (_infinite_scale, "finite"),
        (_no_operands, "DequantizeLinear"),
        (_external("../outside.bin"), "folder only"),
        (_external("/etc/passwd"), "folder only"),
        (_external("C:\\windows\\x"), "folder only"),
        (_external("sub/../../outside.bin"), "folder only"),
        (_external("link.bin"), "folder only"),
        (_external(""), "folder only"),
        (_external("nul\0byte"), "folder only"),
        (_external("absent.bin"), "no file"),
        (_external("short.bin"), "ends before"),
        (_external("short.bin", offset=-1), "takes"),
        (_external("short.bin", length=10**15), "takes"),
        (_external("short.bin", offset="many"), "no number"),
    ],
)
def test_damaged_and_hostile_files_are_refused(change: Callable[[Any], None], words: str, tmp_path: Path) -> None:
    (tmp_path / "outside.bin").write_bytes(bytes(1000))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link.bin").symlink_to(tmp_path / "outside.bin")
    (folder / "short.bin").write_bytes(bytes(3))
    proto = _valid(tmp_path)
    change(proto)
    path = folder / "hostile.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(AccelsimError) as refused:
        accelsim.extract(path)
    assert words in str(refused.value)
    assert "\x1b" not in str(refused.value)
    result = CliRunner().invoke(application, ["extract", str(path)])
    assert result.exit_code in (1, 2)
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_external_data_in_the_models_folder_are_read(tmp_path: Path) -> None:
    proto = _valid(tmp_path)
    inside = tmp_path / "inside.onnx"
    inside.write_bytes(proto.SerializeToString())
    tensor = next(item for item in proto.graph.initializer if item.data_type == 3 and item.dims)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "weights.bin").write_bytes(b"\xee" * 7 + tensor.raw_data)
    _external("data/weights.bin", offset=7)(proto)
    outside = tmp_path / "outside.onnx"
    outside.write_bytes(proto.SerializeToString())
    x = np.random.default_rng(0).standard_normal((1, 4, 6, 6)).astype(np.float32)
    assert np.array_equal(accelsim.extract(outside).run(x)[0].quantized, accelsim.extract(inside).run(x)[0].quantized)


def test_every_cut_and_every_flip_of_a_file_is_read_or_refused(tmp_path: Path) -> None:
    data, path = _valid(tmp_path).SerializeToString(), tmp_path / "flipped.onnx"
    random = np.random.default_rng(0)
    outcomes = set()
    for number in range(400):
        changed = bytearray(data)
        if number % 4:
            changed[random.integers(len(data))] ^= 1 << int(random.integers(8))
        else:
            del changed[random.integers(len(data)) :]
        path.write_bytes(bytes(changed))
        try:
            accelsim.extract(path)
            outcomes.add("read")
        except AccelsimError as error:
            outcomes.add(type(error))
    assert {"read", FormatError, ModelError} <= outcomes


def test_bombs_cost_neither_memory_nor_time(tmp_path: Path) -> None:
    paths = []
    for number, make in enumerate((_many_elements, _constant_of_shape, _doubling_constants, _outer_product, _huge_pad)):
        model, x = _started()
        result = make(model, x)
        model.outputs.append(onnx.helper.make_tensor_value_info(result, graphs.FLOAT, None))
        paths.append(str(model.save(tmp_path / f"{number}.onnx")))
    script = (
        "import re, sys, accelsim\n"
        "for path in sys.argv[1:]:\n"
        "    try: accelsim.extract(path)\n"
        "    except accelsim.AccelsimError: continue\n"
        "    raise SystemExit(path)\n"
        "print(re.search(r'VmHWM:\\s*(\\d+) kB', open('/proc/self/status').read())[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", script, *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 500 << 10


def test_a_size_that_is_not_fixed_is_taken_from_the_example(tmp_path: Path) -> None:
    model, x = _started(("batch", 4, 6, 6))
    model.output(_conv(model, x))
    path = model.save(tmp_path / "batch.onnx")
    with pytest.raises(InputError, match="example input"):
        accelsim.extract(path)
    network = accelsim.extract(path, np.zeros((3, 4, 6, 6), np.float32))
    assert network.values[network.outputs[0]].shape == (3, 3, 6, 6)
    with pytest.raises(InputError, match=r"\(3, 5, 6, 6\)"):
        accelsim.extract(path, np.zeros((3, 5, 6, 6), np.float32))
    with pytest.raises(InputError, match="2 example inputs"):
        accelsim.extract(path, (np.zeros(1), np.zeros(1)))


def test_verify_says_that_pytorch_is_no_witness(tmp_path: Path) -> None:
    path = tmp_path / "one.onnx"
    path.write_bytes(_valid(tmp_path).SerializeToString())
    np.save(tmp_path / "x.npy", np.zeros((1, 4, 6, 6), np.float32))
    result = CliRunner().invoke(application, ["verify", str(path), "--input", str(tmp_path / "x.npy")])
    assert result.exit_code == 1
    assert "ONNX Runtime's" in result.stderr


def test_a_model_in_pytorch_needs_an_example() -> None:
    with pytest.raises(InputError, match="example input"):
        accelsim.extract(abs)


def test_the_engine_is_onnxruntimes_alone(tmp_path: Path) -> None:
    path = tmp_path / "one.onnx"
    path.write_bytes(_valid(tmp_path).SerializeToString())
    assert accelsim.extract(path, engine="onnxruntime").engine == "onnxruntime"
    with pytest.raises(ModelError, match="name no engine"):
        accelsim.extract(path, engine="fbgemm")


def test_the_command_line_knows_the_file_by_its_content_and_torch_is_not_imported(tmp_path: Path) -> None:
    path = tmp_path / "a file without a suffix"
    path.write_bytes(_valid(tmp_path).SerializeToString())
    out = tmp_path / "saved"
    script = (
        "import sys\nfrom accelsim.cli import main\nsys.argv[0] = 'accelsim'\n"
        "try: main()\nfinally: assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "extract", str(path), "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    x = np.random.default_rng(0).standard_normal((1, 4, 6, 6)).astype(np.float32)
    again, first = accelsim.Network.load(out), accelsim.extract(path)
    assert np.array_equal(again.run(x)[0].quantized, first.run(x)[0].quantized)


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "one.onnx"
    path.write_bytes(_valid(tmp_path).SerializeToString())

    def absent(name: str) -> Any:
        raise ModuleNotFoundError(name, name=name)

    monkeypatch.setattr(packages.importlib, "import_module", absent)
    with pytest.raises(ModelError, match=r"pip install 'accelsim\[onnx\]'"):
        accelsim.extract(path)


def test_other_files_are_no_onnx_files(tmp_path: Path) -> None:
    for number, content in enumerate((b"", b"PK\x03\x04" + bytes(40), b"hello", bytes(100), b"\x08\x08", b"\x08" * 50)):
        path = tmp_path / f"{number}"
        path.write_bytes(content)
        assert not container.is_onnx(path)
    with pytest.raises(FormatError, match="no model that can be read; give the path of an ONNX file"):
        accelsim.extract(tmp_path / "2")
    with pytest.raises(FormatError, match="no such file"):
        accelsim.extract(tmp_path / "absent")
    assert not container.is_onnx(tmp_path)
