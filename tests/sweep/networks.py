"""A network small enough to be compiled and timed in a moment."""

from __future__ import annotations

import numpy as np

from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.engines import KernelSet
from accelsim.network import Linear, Network, Value, Weights


def linear(outputs: int = 24) -> Network:
    """One linear layer, (1, 40) to (1, outputs)."""
    draw = np.random.default_rng(1)
    weights = Weights(
        draw.integers(-100, 100, (outputs, 40), np.int8),
        np.array([0.01]),
        np.array([0], np.int32),
        False,
        draw.normal(size=outputs).astype(np.float32),
    )
    values = {
        "x": Value("x", (1, 40), Affine(0.05, 10, "uint8"), (0, 1)),
        "fc": Value("fc", (1, outputs), Affine(0.4, 100, "uint8"), (0, 1)),
    }
    return Network("qnnpack", KernelSet("default", "vnni"), values, (Linear("fc", ("x",), weights),), ("x",), ("fc",))
