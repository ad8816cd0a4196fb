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
    Pads,
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
    "Pads",
    "Permute",
    "Reshape",
    "Slice",
    "Value",
    "Weights",
]
