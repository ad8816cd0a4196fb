"""Verifies layers with full-range weights under the kernels that this process's environment chooses.

The answer, one JSON object a layer, goes to stdout. A process of its own, since the variables that choose the kernels
are read when torch is imported.
"""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

sys.path.insert(0, str(Path(__file__).parents[1] / "frontend"))

import exported_graphs
from equality import codes, engine_set, quantized

import accelsim
from accelsim.network import Network
from accelsim.verification import compare

warnings.filterwarnings("ignore")

#: Inputs, outputs, kernel, groups, padding, transposed.
LAYERS: dict[str, tuple[int, int, tuple[int, ...], int, int, bool]] = {
    "plain": (8, 12, (3, 3), 1, 1, False),
    "odd channels": (5, 7, (3, 2), 1, 1, False),
    "one channel": (1, 8, (3, 3), 1, 1, False),
    "groups of two": (8, 16, (3, 3), 4, 1, False),
    "groups of eight": (32, 32, (3, 3), 4, 1, False),
    "depthwise": (8, 8, (5, 5), 8, 2, False),
    "1x1": (15, 9, (1, 1), 1, 0, False),
    "one axis": (5, 10, (3,), 1, 1, False),
    "transposed": (5, 5, (3, 3), 1, 1, True),
}


def _layer(name: str) -> tuple[Any, torch.Tensor]:
    """A function with weights of the whole range, and codes of the whole range for it."""
    rng, ops = np.random.default_rng(3), torch.ops.quantized
    if name == "two layers":
        # What the first layer's saturation changes is the second one's input, and no difference of its own.
        first, x = _layer("plain")
        raw = torch.from_numpy(rng.integers(-128, 128, (7, 12 * 49), np.int8))
        packed = ops.linear_prepack(torch._make_per_tensor_quantized_tensor(raw, 2.0**-5, 0), None)
        return lambda x: ops.linear(torch.flatten(first(x), 1), packed, 2048.0, 9), x
    if name == "linear":
        raw = torch.from_numpy(rng.integers(-128, 128, (11, 41), np.int8))
        packed = ops.linear_prepack(torch._make_per_tensor_quantized_tensor(raw, 2.0**-5, 0), None)
        return lambda x: ops.linear(x, packed, 16.0, 9), quantized(codes(1, (30, 41)), 0.25, 77)
    inputs, outputs, kernel, groups, pad, transposed = LAYERS[name]
    rank = len(kernel)
    shape = (inputs, outputs // groups, *kernel) if transposed else (outputs, inputs // groups, *kernel)
    w = torch._make_per_tensor_quantized_tensor(torch.from_numpy(rng.integers(-128, 128, shape, np.int8)), 2.0**-5, 0)
    ones = [1] * rank
    if transposed:
        packed = getattr(ops, f"conv_transpose{rank}d_prepack")(w, None, ones, [pad] * rank, [0] * rank, ones, groups)
        function = getattr(ops, f"conv_transpose{rank}d")
    else:
        packed = getattr(ops, f"conv{rank}d_prepack")(w, None, ones, [pad] * rank, ones, groups)
        function = getattr(ops, f"conv{rank}d")
    return lambda x: function(x, packed, 8.0, 9), quantized(codes(1, (2, inputs, *[7] * rank)), 0.25, 77)


#: Layers of torch.export graphs: the shape of the weights, and options of the convolution.
_EXPORTED: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "plain": ((12, 8, 3, 3), {"padding": 1}),
    "odd channels": ((7, 5, 3, 2), {"padding": 1}),
    "depthwise": ((8, 1, 5, 5), {"padding": 2, "groups": 8}),
    "1x1": ((9, 15, 1, 1), {}),
    "linear": ((11, 41), {}),
    # Its sums are pooled before they are quantised: of the layer itself PyTorch makes no codes.
    "pooled": ((12, 8, 3, 3), {"padding": 1}),
}


def _exported(name: str) -> tuple[Any, torch.Tensor]:
    shape, options = _EXPORTED[name]
    layer = exported_graphs.Layer(3, shape, bias=False, **options)
    layer.weight.copy_(torch.from_numpy(np.random.default_rng(3).integers(-128, 128, shape, np.int8)))
    grid = (0.25, 77)
    given = (30, 41) if len(shape) == 2 else (2, shape[1] * options.get("groups", 1), 7, 7)
    x = exported_graphs.dequantize(torch.from_numpy(codes(1, given)), grid)
    after = (lambda sums: F.max_pool2d(sums, 2).flatten(1)) if name == "pooled" else lambda sums: sums
    return lambda x: exported_graphs.rounded(after(layer(exported_graphs.rounded(x, grid))), (4.0, 9)), x


def _answer(network: Network, model: Any, x: torch.Tensor) -> list[dict[str, Any]]:
    """What the comparison says of each layer; the reference stands in for the machine, which has tests of its own."""
    values = {name: _Output(array) for name, array in network.trace(x).items()}
    verification = compare(network, _Result(values, network.run(x)), model, x)  # type: ignore[arg-type]
    return [
        {"differing": layer.differing, "unexplained": layer.mismatches, "cause": layer.cause}
        for layer in verification.layers
    ]


class _Output:
    def __init__(self, quantized: np.ndarray) -> None:
        self.quantized = quantized


class _Result:
    accelerator = accelsim.Accelerator.from_dict(
        {
            "name": "stand-in",
            "mac_array": {"rows": 1, "columns": 1},
            "buffers": {name: {"bytes": 4} for name in ("activation", "weight", "accumulator")},
        }
    )

    def __init__(self, values: dict[str, _Output], outputs: list[accelsim.Output]) -> None:
        self.values, self.outputs = values, outputs


def main() -> None:
    """One engine, named in the first argument."""
    engine = sys.argv[1]
    answers: dict[str, Any] = {}
    for name in (*LAYERS, "linear", "two layers") if engine != "pt2e" else _EXPORTED:
        with engine_set(engine) if engine != "pt2e" else contextlib.nullcontext():
            model, x = _layer(name) if engine != "pt2e" else _exported(name)
        network = accelsim.extract(model, x, engine=engine)
        answers[name] = {"layers": _answer(network, model, x)}
        # A network that is wrong in one weight is not excused by saturation.
        network.nodes[0].weights.codes.reshape(-1)[7] ^= 1 << 5
        answers[name]["with a wrong weight"] = _answer(network, model, x)
    print(json.dumps(answers))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
