"""The machine beside PyTorch, and a reason for every difference."""

from .compare import compare, verify
from .result import LayerVerification, Verification

__all__ = ["LayerVerification", "Verification", "compare", "verify"]
