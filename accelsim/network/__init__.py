"""The integer graph, its file format and its reference executor."""

from .graph import (
    Add,
    AveragePool,
    Concatenate,
    Convolution,
    Linear,
    Lookup,
    MaxPool,
    Multiply,
    Network,
    Node,
    Permute,
    Reshape,
    Slice,
    Value,
    Weights,
)
from .output import Output

__all__ = [
    "Add",
    "AveragePool",
    "Concatenate",
    "Convolution",
    "Linear",
    "Lookup",
    "MaxPool",
    "Multiply",
    "Network",
    "Node",
    "Output",
    "Permute",
    "Reshape",
    "Slice",
    "Value",
    "Weights",
]
