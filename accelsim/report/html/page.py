"""The page itself: what was run, its figures and tables, put into the template."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import jinja2
import yaml
from markupsafe import Markup
from matplotlib.figure import Figure

from accelsim.escaping import printable
from accelsim.isa import Program
from accelsim.machine import Result
from accelsim.report.causes import label, meaning, ordered
from accelsim.report.faster import Outcome, best, none_sentence, sentence
from accelsim.report.operands import operand_traffic
from accelsim.report.plots import BUSY, short
from accelsim.report.roofline import roofline
from accelsim.report.tables import duration, percent, run_summary

from . import contents
from .figures import (
    NARROW,
    WIDE,
    cycles_figure,
    longest,
    roofline_figure,
    timeline_figure,
    traffic_figure,
)
from .svg import inline, styled

if TYPE_CHECKING:
    from accelsim.verification import Verification


@dataclass(frozen=True)
class _Picture:
    """One figure for wide screens and paper, one for narrow screens."""

    wide: Markup
    narrow: Markup
    caption: str


def page(
    program: Program,
    result: Result,
    *,
    notes: Sequence[str] = (),
    verification: Verification | None = None,
    checked: tuple[int, int] | None = None,
    outcomes: Sequence[Outcome] | None = None,
) -> str:
    """The HTML page of the `result` of a run of `program`.

    `checked`: how many outputs were compared with the integer reference, and how many differ. `outcomes`: of
    `try_changes`, None where nothing was tried.
    """
    from accelsim import __version__

    return _template().render(
        name=result.name,
        machine=result.accelerator.name,
        summary=run_summary(result),
        facts=_facts(result),
        notes=notes,
        **_faster(result, outcomes),
        **_pictures(program, result),
        **_tables(program, result),
        causes=[(label(cause), meaning(cause)) for cause in _shown_causes(result) if meaning(cause)],
        verified=_verified(verification, checked),
        verification=None if verification is None else contents.verification_sheet(verification),
        yaml=yaml.safe_dump(result.accelerator.to_dict(), sort_keys=False, allow_unicode=True),
        version=__version__,
    )


def _template() -> jinja2.Template:
    def shown(value: Any) -> Any:
        return printable(value, lines=True) if isinstance(value, str) and not isinstance(value, Markup) else value

    # What is not marked as HTML by the template or by the figures is text, whatever the names in it are.
    environment = jinja2.Environment(autoescape=True, finalize=shown, undefined=jinja2.StrictUndefined)
    return environment.from_string(files(__package__).joinpath("page.html.j2").read_text(encoding="utf-8"))


def _facts(result: Result) -> list[tuple[str, str]]:
    array, dram = result.accelerator.mac_array, result.traffic["dram"]
    return [
        ("cycles", f"{result.cycles:,}"),
        ("time", f"{duration(result.cycles / (result.accelerator.clock_mhz * 1e6))}"),
        ("utilisation", percent(result.utilization)),
        ("MACs", f"{result.macs:,}"),
        ("array", f"{array.rows} x {array.columns}"),
        ("DRAM bytes", f"{dram.read + dram.written:,}"),
        ("layers", f"{len(result.layers):,}"),
    ]


def _faster(result: Result, outcomes: Sequence[Outcome] | None) -> dict[str, Any]:
    tried = outcomes or ()
    return {
        "changes": None if outcomes is None else contents.change_sheet(outcomes, result.cycles),
        "faster": [sentence(outcome, result.cycles, result.accelerator) for outcome in best(tried, result.cycles)],
        "none_faster": none_sentence(tried),
    }


def _verified(verification: Verification | None, checked: tuple[int, int] | None) -> str:
    if verification is not None:
        return (
            f"{verification.compared:,} outputs of all layers were compared with PyTorch's: "
            f"{verification.mismatches:,} differ without an explanation, {verification.differing_bits:,} bits differ."
        )
    if checked is not None:
        return f"{checked[0]:,} outputs were compared with the integer reference: {checked[1]:,} differ."
    return "Nothing was compared: this run had no data, or it is a program, which has no reference."


def _shown_causes(result: Result) -> list[str]:
    return ordered([*BUSY, *(cause for found in result.units.values() for cause in found)])


def _tables(program: Program, result: Result) -> dict[str, Any]:
    return {
        "layers": contents.layer_sheet(result),
        "array": contents.array_sheet(result),
        "units": contents.unit_sheet(result),
        "layer_units": contents.layer_unit_sheet(result),
        "roofline_table": contents.roofline_sheet(roofline(result)),
        "operands": contents.operand_sheet(operand_traffic(program, result.accelerator)),
        "traffic_table": contents.traffic_sheet(result),
        "configuration": contents.configuration_sheet(result.accelerator.to_dict()),
    }


def _pictures(program: Program, result: Result) -> dict[str, Any]:
    layers, roof = longest(result.layers), roofline(result)
    left_out = sum(1 for layer in result.layers if layer.cycles) - len(layers)
    some = f" The {len(layers)} longest layers; {left_out:,} shorter ones are in the table." if left_out else ""
    operands = operand_traffic(program, result.accelerator)
    cycles = f"{result.cycles:,} cycles"
    return {
        "shares": _picture(
            "shares",
            lambda width: cycles_figure(layers, width, shares=True),
            f"What the MAC array did in each layer, in % of the layer's cycles; working is its utilisation, "
            f"{percent(result.utilization)} over the run.{some}",
        ),
        "cycles": _picture(
            "cycles",
            lambda width: cycles_figure(layers, width, shares=False),
            f"Cycles of each layer, of {cycles}, and what the MAC array did in them.{some}",
        ),
        "roofline": _picture(
            "roofline",
            lambda width: roofline_figure(roof, width),
            f"Roofline: {len(roof.points)} layers under the ceilings of the MAC array ({roof.peak:,} MACs a cycle) and "
            f"of DRAM ({roof.bandwidth:.4g} bytes a cycle).",
        )
        if roof.points
        else None,
        "traffic": _picture(
            "traffic",
            lambda width: traffic_figure(operands, width),
            "Bytes of each memory, DRAM's by operand and the others' by unit: "
            + ", ".join(f"{name} {short(moved.read + moved.written)}B" for name, moved in result.traffic.items())
            + ".",
        ),
        "timeline": _picture(
            "timeline",
            lambda width: timeline_figure(result, width),
            f"Share of the time in which each unit has an instruction at work, over {cycles}; a load is at work until "
            "its data are there.",
        ),
    }


def _picture(name: str, draw: Callable[[float], Figure], caption: str) -> _Picture:
    with styled():
        wide, narrow = (inline(draw(width), f"{name}-{size}", caption) for width, size in ((WIDE, "w"), (NARROW, "n")))
    return _Picture(wide, narrow, caption)
