"""The machine: units and memories, a clock and counters; a program runs on it, with its data or in time alone."""

from accelsim.machine.traffic import Traffic

from .result import LayerResult, Result
from .simulation import simulate
from .units import Span

__all__ = ["LayerResult", "Result", "Span", "Traffic", "simulate"]
