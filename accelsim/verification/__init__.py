"""The machine beside PyTorch, and a reason for every difference."""

from .compare import check_witness, compare, verify
from .result import LayerVerification, Verification

__all__ = ["LayerVerification", "Verification", "check_witness", "compare", "verify"]
