"""A batch is at least one image: none is refused by name, before anything is divided by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import accelsim
from accelsim.errors import InputError

EDGE = accelsim.Accelerator.from_yaml(Path(__file__).parents[2] / "configs" / "edge_16x16.yaml")


def model(x: torch.Tensor) -> torch.Tensor:
    return torch.ops.quantized.relu6(torch.quantize_per_tensor(x, 0.1, 3, torch.quint8))


@pytest.mark.parametrize("batch", [0, -1, 1.5, "2"])
def test_a_batch_that_is_no_number_of_images_is_refused(batch: Any) -> None:
    with pytest.raises(InputError, match="batch="):
        accelsim.verify(model, torch.ones(2, 4), EDGE, batch=batch)


def test_an_input_without_rows_is_refused() -> None:
    for attempt in (lambda x: accelsim.extract(model, x), lambda x: accelsim.verify(model, x, EDGE)):
        with pytest.raises(InputError, match=r"input 0: shape \(0, 4\) has no elements"):
            attempt(torch.ones(0, 4))
