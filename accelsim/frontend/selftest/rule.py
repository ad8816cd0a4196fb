"""What a self-test says of one rule."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule. `compared`, `differing`: codes. `refused`: why a case was not compared, "" if all were.

    `absent`: the installation has no such kernel.
    """

    engine: str
    operator: str
    compared: int
    differing: int
    refused: str = ""
    absent: bool = False

    @property
    def holds(self) -> bool:
        """Whether no code differs."""
        return not self.differing

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "holds": self.holds}
