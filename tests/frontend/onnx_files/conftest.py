"""The helpers beside the tests can be imported by name; what needs ONNX Runtime's answers is marked `witness`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "golden")]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "witness: needs onnxruntime, whose outputs are the expected ones")
