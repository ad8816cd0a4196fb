"""Many configurations for one network: the grid, the local processes that run it, and the store of finished points."""

from .grid import Axis, grid
from .runner import Point, Sweep, run_sweep
from .store import Measurement, Store

__all__ = ["Axis", "Measurement", "Point", "Store", "Sweep", "grid", "run_sweep"]
