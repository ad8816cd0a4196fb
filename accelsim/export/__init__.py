"""A network's integers for other tools: safetensors, npz, a C header, `$readmemh` files; each with a manifest."""

from .bundle import Bundle, Tensor, network_bundle, tensors_bundle
from .certificates import check_certificates_out, write_certificates
from .files import FORMATS, check_out, write

__all__ = [
    "FORMATS",
    "Bundle",
    "Tensor",
    "check_certificates_out",
    "check_out",
    "network_bundle",
    "tensors_bundle",
    "write",
    "write_certificates",
]
