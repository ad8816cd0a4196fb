"""Network to program: lowering, placement, tiling, emission, synchronisation."""

from .pipeline import Compilation, compile, compile_with_plans

__all__ = ["Compilation", "compile", "compile_with_plans"]
