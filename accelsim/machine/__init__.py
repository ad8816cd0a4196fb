"""The machine: units and memories, a clock and counters; a program runs on it, with its data or in time alone."""

from .result import LayerResult, Result
from .simulation import simulate
from .traffic import Traffic
from .units import Span

__all__ = ["LayerResult", "Result", "Span", "Traffic", "simulate"]
