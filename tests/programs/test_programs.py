"""The programs written by hand compute what PyTorch's kernels compute from the same numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import accelsim
from accelsim.isa import Program

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))

# Each script prints PyTorch's codes as JSON. It runs in a process of its own, with the kernel set that the program is
# written for, whatever the processor would choose.
TWO_LAYERS = """
torch.backends.quantized.engine = "fbgemm"
def linear(x, weight, scales, bias, scale, zero_point, kernel):
    q = torch._make_per_channel_quantized_tensor(
        torch.tensor(weight, dtype=torch.int8), torch.tensor(scales), torch.zeros(len(scales), dtype=torch.long), 0)
    return kernel(x, torch.ops.quantized.linear_prepack(q, torch.tensor(bias)), scale, zero_point)
x = torch._make_per_tensor_quantized_tensor(torch.tensor([[12, 200, 10, 97]], dtype=torch.uint8), 0.05, 10)
w1 = [[25, -3, 40, 7], [-12, 18, 0, 33], [5, -60, 21, -9]]
h = linear(x, w1, [0.02, 0.01, 0.03], [0.5, -0.25, 1.0], 0.1, 3, torch.ops.quantized.linear_relu)
w2 = [[30, -20, 11], [-7, 45, 64]]
y = linear(h, w2, [0.015, 0.025], [-0.1, 0.2], 0.08, 120, torch.ops.quantized.linear)
"""

CONV_PADDING = """
torch.backends.quantized.engine = "qnnpack"
image = [[20, 0, 24, 1, 0, 4, 24, 29], [14, 5, 15, 19, 18, 22, 8, 7],
         [29, 8, 1, 13, 8, 7, 11, 29], [17, 5, 12, 26, 3, 23, 1, 25]]
kernel = [[-7, -7, 8], [1, -9, -7], [-2, 7, -6], [8, 5, -4], [2, -3, 1], [-4, 4, 4], [0, -5, -3], [-3, 5, 2],
          [3, 1, -4], [7, -9, -1], [3, 8, 6], [-6, -9, -6], [3, 7, -7], [-8, 0, 6], [-8, 7, -3], [-2, -3, 6],
          [9, -4, -7], [3, -1, -5]]
x = torch.tensor(image, dtype=torch.uint8).reshape(1, 4, 4, 2).permute(0, 3, 1, 2)
x = torch._make_per_tensor_quantized_tensor(x, 0.1, 12)
w = torch.tensor(kernel, dtype=torch.int8).reshape(3, 3, 2, 3).permute(3, 2, 0, 1)
w = torch._make_per_tensor_quantized_tensor(w, 0.05, 0)
packed = torch.ops.quantized.conv2d_prepack(w, torch.tensor([0.4, -0.6, 0.21]), [1, 1], [1, 1], [1, 1], 1)
y = torch.ops.quantized.conv2d(x, packed, 0.25, 100)
"""

RESIDUAL_ADD = """
torch.backends.quantized.engine = "fbgemm"
def tensor(address, scale, zero_point):
    lines = [line.split() for line in text.splitlines() if line.startswith(".data")]
    codes = [int(v) for line in lines if int(line[1], 0) // 128 == address for v in line[3:]]
    return torch._make_per_tensor_quantized_tensor(torch.tensor([codes], dtype=torch.uint8), scale, zero_point)
text = open(sys.argv[1]).read()
y = torch.ops.quantized.add(tensor(0, 0.5, 20), tensor(1, 0.25, 10), 1.0, 7)
"""


def program(name: str) -> Program:
    return accelsim.assemble((ROOT / "programs" / f"{name}.asm").read_text())


def torch_codes(script: str, name: str) -> list[Any]:
    text = "import json, sys, torch\n" + script + "print(json.dumps(y.int_repr().tolist()))"
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "avx2", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", text, str(ROOT / "programs" / f"{name}.asm")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert isinstance(result, list)
    return result


@pytest.mark.parametrize(
    ("name", "script"), [("two_layers", TWO_LAYERS), ("conv_padding", CONV_PADDING), ("residual_add", RESIDUAL_ADD)]
)
def test_a_program_by_hand_gives_pytorchs_codes_on_every_configuration(name: str, script: str) -> None:
    expected = np.array(torch_codes(script, name))
    for path in CONFIGS:
        accelerator = accelsim.Accelerator.from_yaml(path)
        result = accelsim.simulate(program(name), (), accelerator=accelerator)
        np.testing.assert_array_equal(result.outputs[0].quantized, expected)
        assert accelsim.simulate(program(name), accelerator=accelerator).cycles == result.cycles


@pytest.mark.parametrize("path", sorted((ROOT / "programs").glob("*.asm")), ids=lambda path: path.stem)
def test_a_program_by_hand_round_trips_through_words_text_and_file(path: Path, tmp_path: Path) -> None:
    written = accelsim.assemble(path.read_text())
    again = accelsim.assemble(written.assembly())
    assert again.words() == written.words()
    assert again == written
    written.save(tmp_path / "program.bin")
    assert Program.load(tmp_path / "program.bin") == written


def test_body_and_tail_of_the_residual_add_round_the_same_operands_differently() -> None:
    accelerator = accelsim.Accelerator.from_yaml(ROOT / "configs" / "edge_16x16.yaml")
    codes = accelsim.simulate(program("residual_add"), (), accelerator=accelerator).outputs[0].quantized[0]
    assert codes[:6].tolist() == [7, 9, 9, 11, 11, 13]
    assert codes[-6:].tolist() == [8, 8, 10, 10, 12, 12]
