"""ExecuTorch's runtime as a witness: a graph lowered to XNNPACK, and what it gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from executorch.runtime import Runtime
from int8_graphs import Several, exported, reals, rounded
from xnnpack_specs import Spec

from accelsim.arithmetic.affine import Affine


def run(program: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[list[np.ndarray], list[str]]:
    """The outputs of an exported graph on XNNPACK, and the operators that did not go there."""
    edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    left = [
        str(node.target)
        for node in edge.exported_program().graph.nodes
        if node.op == "call_function" and "getitem" not in str(node.target) and "delegate" not in str(node.target)
    ]
    buffer = edge.to_executorch().buffer  # the loaded program reads it, and does not keep it
    loaded = Runtime.get().load_program(buffer)
    outputs = loaded.load_method("forward").execute(list(inputs))
    return [output.numpy().copy() for output in outputs], left


def codes_of(real: np.ndarray, grid: Affine) -> np.ndarray:
    """The codes that dequantised numbers stand for."""
    codes = np.rint(real.astype(np.float64) / grid.scale) + grid.zero_point
    return codes.astype(np.int8)


def answers(specs: Sequence[Spec], inputs: Sequence[list[np.ndarray]]) -> list[np.ndarray]:
    """ExecuTorch's codes of each operator. Raises AssertionError where one does not run on XNNPACK."""
    given = tuple(part for spec, codes in zip(specs, inputs, strict=True) for part in reals(spec, codes))
    outputs, left = run(exported(Several(specs), given), given)
    assert not left, left
    return [codes_of(output, spec.output) for spec, output in zip(specs, outputs, strict=True)]


class _Rounded(torch.nn.Module):
    def __init__(self, grids: Sequence[Affine]) -> None:
        super().__init__()
        self.grids = grids

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(rounded(x, grid) for grid in self.grids)


def quantized(real: np.ndarray, grids: Sequence[Affine]) -> list[np.ndarray]:
    """The codes that XNNPACK makes of real numbers, under each affine map."""
    given = (torch.from_numpy(real)[None],)
    outputs, left = run(exported(_Rounded(grids), given), given)
    assert not left, left
    return [codes_of(output[0], grid) for output, grid in zip(outputs, grids, strict=True)]
