"""ONNX graphs for the tests, and ONNX Runtime's answers to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx_specs import Spec

from accelsim.arithmetic.affine import Affine, dequantize

FLOAT = TensorProto.FLOAT
KINDS = {"uint8": TensorProto.UINT8, "int8": TensorProto.INT8}


class Model:
    """An ONNX graph that grows node by node; tensors are named by what makes them."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.constants: list[Any] = []

    def input(self, name: str, shape: Any, kind: int = FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, name: str, kind: int = FLOAT) -> None:
        self.outputs.append(helper.make_tensor_value_info(name, kind, None))

    def constant(self, array: Any, name: str = "") -> str:
        name = name or f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, operator: str, *inputs: str, results: int = 1, domain: str = "", **attributes: Any) -> Any:
        names = [f"t{len(self.nodes)}_{which}" for which in range(results)]
        own = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), names, name=own, domain=domain, **attributes))
        return names[0] if results == 1 else names

    def quantize(self, x: str, grid: Affine) -> str:
        return self.node("QuantizeLinear", x, *self.grid(grid))

    def dequantize(self, x: str, grid: Affine) -> str:
        return self.node("DequantizeLinear", x, *self.grid(grid))

    def both(self, x: str, grid: Affine) -> str:
        return self.dequantize(self.quantize(x, grid), grid)

    def grid(self, grid: Affine) -> tuple[str, str]:
        return self.constant(np.float32(grid.scale)), self.constant(np.array(grid.zero_point, grid.dtype))

    def parameter(self, codes: np.ndarray, scale: Any, zero: Any = None, **attributes: Any) -> str:
        operands = [self.constant(codes), self.constant(np.asarray(scale, np.float32))]
        if zero is not None:
            operands.append(self.constant(np.asarray(zero, codes.dtype)))
        return self.node("DequantizeLinear", *operands, **attributes)

    def proto(self, opset: int = 17) -> Any:
        graph = helper.make_graph(self.nodes, "graph", self.inputs, self.outputs, self.constants)
        imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=imports, ir_version=8 if opset < 21 else 10)

    def save(self, path: Path, opset: int = 17) -> Path:
        onnx.save(self.proto(opset), path)
        return path


def answers(path: Path, *inputs: np.ndarray) -> list[np.ndarray]:
    """The outputs of ONNX Runtime's CPU provider: one thread, sums of products exact on processors without VNNI too."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))


def of_spec(spec: Spec) -> Model:
    """An operator between pairs of QuantizeLinear and DequantizeLinear."""
    model = Model()
    sources = []
    for number, (shape, grid) in enumerate(spec.inputs):
        if spec.operator == "Identity":  # of two pairs in a row ONNX Runtime makes one
            sources.append(model.dequantize(model.input(f"x{number}", shape, KINDS[grid.dtype]), grid))
        else:
            sources.append(model.both(model.input(f"x{number}", shape), grid))
    arrays, operands = spec.arrays, list(sources)
    if arrays:
        outputs_axis = 1 if spec.operator in ("Gemm", "MatMul") and not spec.attributes.get("transB") else 0
        operands.append(model.parameter(arrays["weights"], arrays["scales"], arrays["zero_points"], axis=outputs_axis))
    if "bias" in arrays:
        scale = np.float32(spec.inputs[0][1].scale) * arrays["scales"]
        operands.append(model.parameter(arrays["bias"], scale, np.zeros(scale.shape, np.int32), axis=0))
    result = operands[0] if spec.operator == "Identity" else model.node(spec.operator, *operands, **spec.attributes)
    model.output(model.both(result, spec.output))
    return model


def codes_of(spec: Spec, path: Path, codes: list[np.ndarray]) -> np.ndarray:
    """ONNX Runtime's codes for the operator in a file that `of_spec` made."""
    given = [dequantize(part, grid) for part, (_, grid) in zip(codes, spec.inputs, strict=True)]
    (real,) = answers(path, *(codes if spec.operator == "Identity" else given))
    found = np.rint(real.astype(np.float64) / spec.output.scale) + spec.output.zero_point
    assert np.array_equal(dequantize(found.astype(spec.output.dtype), spec.output), real)
    return found.astype(spec.output.dtype)
