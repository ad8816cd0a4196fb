"""Every rule of every engine that this installation has, against the engine's own kernels on this processor.

Each case is a small model: its network computes by the rules, the engine runs it by its kernels, and every code is
compared.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from accelsim.arithmetic.engines import ONNXRUNTIME
from accelsim.frontend.packages import pytorch

from .rule import Rule

__all__ = ["Rule", "engines", "environment", "rules_of"]


def engines() -> tuple[str, ...]:
    """The engines whose kernels and rules there are. Warns of a PyTorch that is newer than the rules."""
    found: tuple[str, ...] = ()
    if importlib.util.find_spec("torch"):
        pytorch()
        from . import torch_rules

        found = torch_rules.engines()
    has_runtime = all(map(importlib.util.find_spec, ("onnx", "onnxruntime")))
    return (*found, *((ONNXRUNTIME,) if has_runtime else ()))


def environment(engine: str) -> dict[str, str]:
    """With what an engine's rules are compared: "with" names the package and its version."""
    if engine == ONNXRUNTIME:
        from . import onnx_rules

        return onnx_rules.environment()
    from . import torch_rules

    return torch_rules.environment(engine)


def rules_of(engine: str) -> Iterator[Rule]:
    """Each rule of an engine, compared."""
    if engine == ONNXRUNTIME:
        from . import onnx_rules

        return onnx_rules.rules()
    from . import torch_rules

    return torch_rules.rules_of(engine)
