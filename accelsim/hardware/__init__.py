"""The machine's description: a YAML file, validated."""

from .configuration import Accelerator

__all__ = ["Accelerator"]
