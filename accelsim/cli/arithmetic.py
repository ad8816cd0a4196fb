"""What the arithmetic of a machine's requant unit does to a network: shared by `compile`, `run` and `verify`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from accelsim.hardware import Accelerator
from accelsim.network import Network
from accelsim.network.substitution import LayerUnit
from accelsim.report.certification import LayerCertification, certification_table, summary
from accelsim.report.comparison import Comparison, compare

from .options import read_inputs
from .output import progress
from .status import CallError

Labels = Annotated[
    Path | None,
    typer.Option(metavar="Y.npy", help="Index of the right output of each row, for accuracies.", show_default=False),
]


def read_labels(path: Path | None) -> np.ndarray | None:
    """The integers in a file. Raises CallError for anything else."""
    labels = None if path is None else read_inputs([path])
    if labels is not None and labels.dtype.kind not in "iu":
        raise CallError(f"--labels: dtype {labels.dtype}; labels are integers")
    return labels


def effect(
    network: Network, x: Any, accelerator: Accelerator, units: Mapping[str, LayerUnit], labels: Path | None
) -> Comparison | None:
    """The network in the machine's arithmetic (`units`) beside its engine's; None where the machine's is the engine's.

    Raises CallError for labels where nothing changes, or where there is no input.
    """
    arithmetic = accelerator.requant_unit.arithmetic
    if arithmetic.name == "float32_exact" or x is None:
        if labels is not None:
            why = "there is no input to compare on" if x is None else f"{arithmetic} changes no output"
            raise CallError(f"--labels {labels}: {why}; `accelsim compare --labels` takes any arithmetic")
        return None
    rules = {name: unit.rule for name, unit in units.items()}
    with progress(f"compare with {arithmetic}"):
        return compare(network, x, [arithmetic.name], read_labels(labels), known=rules)[0]


def certificates(network: Network, units: Mapping[str, LayerUnit]) -> list[LayerCertification]:
    """By layer what is proved of the machine's fixed-point constants; empty for another arithmetic."""
    nodes = {node.name: node for node in network.nodes}
    return [summary(nodes[name], unit.certificate) for name, unit in units.items() if unit.certificate is not None]


def certificates_table(network: Network, rows: list[LayerCertification], accelerator: Accelerator) -> list[Table]:
    """The same for people, or nothing."""
    bits = accelerator.requant_unit.arithmetic.multiplier_bits
    return [certification_table(network, rows, bits)] if rows and bits is not None else []


def uncertified(
    units: Mapping[str, LayerUnit],
    accelerator: Accelerator,
    model: str,
    engine: str | None,
    lanes: str,
    *,
    trust: bool = False,
) -> tuple[str, ...]:
    """Where the accumulators are listed whose codes fixed point changes, as a note; none where it changes none."""
    found = [unit.certificate for unit in units.values() if unit.certificate is not None]
    channels, certified = (sum(len(item.certified) for item in found), sum(int(item.certified.sum()) for item in found))
    if channels == certified:
        return ()
    options = ["--multiplier-bits", str(accelerator.requant_unit.arithmetic.multiplier_bits), "--out", "FILE.json"]
    options += [] if engine is None else ["--engine", engine]
    options += [] if lanes == "host" else ["--lanes", lanes]
    options += ["--trust", "--input", "X.npy"] if trust else []  # as a TorchScript file needs
    command = shlex.join(["accelsim", "certify", model, *options])
    return (
        f"{channels - certified:,} of {channels:,} channels have no certificate; `{command}` lists the accumulators "
        f"whose codes differ",
    )
