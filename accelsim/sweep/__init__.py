"""Many configurations for one network: the grid, the local processes that run it, and the store of finished points."""

from .grid import Axis, Space, grid
from .runner import Estimate, Point, Sweep, run_sweep
from .store import Measurement, Store

__all__ = ["Axis", "Estimate", "Measurement", "Point", "Space", "Store", "Sweep", "grid", "run_sweep"]
