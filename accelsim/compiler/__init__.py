"""Network to program: lowering, placement, tiling, emission, synchronisation."""

from .pipeline import compile, compile_with_plans
from .tuning.decisions import Compilation

__all__ = ["Compilation", "compile", "compile_with_plans"]
