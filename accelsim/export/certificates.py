"""Fixed-point constants with what is proved of them, as JSON or safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy

from accelsim import files
from accelsim.arithmetic.certificate import Certificate
from accelsim.errors import FormatError
from accelsim.escaping import json_text, whole_characters
from accelsim.network import Network

from .bundle import ACCUMULATOR

_ENDINGS = (".json", ".safetensors")


def check_certificates_out(out: str | Path) -> None:
    """What can be said of `out` before there are certificates. Raises FormatError for its ending, and WriteError."""
    if Path(out).suffix not in _ENDINGS:
        raise FormatError(f"{out}: constants are written as .json or .safetensors; give the file one of these endings")
    files.check_writable(out)


def write_certificates(network: Network, certificates: Mapping[str, Certificate], out: str | Path) -> None:
    """Write the constants of every layer to `out`, which ends in .json or .safetensors.

    The JSON lists the ranges of accumulators that differ (half-open) of each channel that has any. Raises FormatError
    for another ending, and WriteError.
    """
    check_certificates_out(out)
    path = Path(out)
    head = {
        "format": "accelsim-certificates",
        "version": 1,
        "network": network.name,
        "engine": network.engine,
        "form": "q = clamp((acc * multiplier + offset) >> shift)",
        "accumulator": ACCUMULATOR,
    }
    if path.suffix == ".json":
        layers = {}
        for name, found in certificates.items():
            constants = found.constants
            layers[name] = {
                "multiplier_bits": found.multiplier_bits,
                "clamp": [constants.minimum, constants.maximum],
                **{key: value.tolist() for key, value in _arrays(found).items()},
                "differing_ranges": {
                    str(channel): found.intervals(int(channel)) for channel in np.flatnonzero(found.differing)
                },
            }
        files.write(path, json_text({**head, "layers": layers}, indent=1) + "\n")
    else:
        arrays = {
            whole_characters(f"{name}.{key}"): np.ascontiguousarray(value)
            for name, found in certificates.items()
            for key, value in _arrays(found).items()
        }
        clamps = {name: [f.constants.minimum, f.constants.maximum] for name, f in certificates.items()}
        metadata = json_text({**head, "clamps": clamps})
        files.write(path, safetensors.numpy.save(arrays, {"manifest": metadata}))


def _arrays(found: Certificate) -> dict[str, np.ndarray]:
    return {
        "multiplier": found.constants.multiplier,
        "offset": found.constants.offset,
        "shift": found.constants.shift,
        "low": found.reach.low,
        "high": found.reach.high,
        "certified": found.certified,
        "bits": found.bits,
        "differing": found.differing,
        "worst": found.worst,
    }
