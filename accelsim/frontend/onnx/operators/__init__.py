"""ONNX's operators, one handler each; importing this package declares all of them."""

from . import elementwise, layers, movement, pooling, qlinear, quantization
from .table import OPERATORS

__all__ = ["OPERATORS", "elementwise", "layers", "movement", "pooling", "qlinear", "quantization"]
