"""Tables for people: plain rich tables made of results, shared by the command line and the demo."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from accelsim.escaping import printable

from .causes import label, ordered

if TYPE_CHECKING:
    from accelsim.machine import Result
    from accelsim.network import Output
    from accelsim.verification import Verification


def percent(share: float) -> str:
    """A share of one, with as many digits as tell small ones apart."""
    return f"{100 * share:.1f} %" if share >= 0.001 or not share else f"{100 * share:.2g} %"


def duration(seconds: float) -> str:
    """A time in the unit that keeps it readable."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


class PlainTable(Table):
    """A table whose cells are text as it stands, fit for a terminal: no mark-up, no control characters."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        """`cells`: a text a column."""
        super().add_row(*(Text(printable(cell or "", lines=True)) for cell in cells), **options)


def plain_table(title: str, columns: Iterable[str], *, left: int = 1, caption: str | None = None) -> PlainTable:
    """An empty table whose first `left` columns hold text and whose others hold numbers."""
    # A title may be wider than its table.
    above = Text(printable(title), "bold", no_wrap=True, overflow="ignore")
    below = None if caption is None else Text(printable(caption), "dim", no_wrap=True, overflow="ignore")
    table = PlainTable(title=above, title_justify="left", caption=below, caption_justify="left", box=box.SIMPLE_HEAD)
    for index, name in enumerate(columns):
        side: Any = "left" if index < left else "right"
        table.add_column(Text(printable(name, lines=True)), justify=side, overflow="fold", vertical="bottom")
    return table


def cycle_table(result: Result) -> Table:
    """By layer: MACs, cycles, utilisation, and the MAC array's stalled cycles by cause."""
    causes = ordered(cause for layer in result.layers for cause in layer.stalls)
    columns = ["layer", "MACs", "cycles", "utilisation", *(label(cause) for cause in causes)]
    table = plain_table("Cycles by layer, and why the MAC array stood still", columns)
    for layer in result.layers:
        stalls = (_count(layer.stalls.get(cause, 0)) for cause in causes)
        table.add_row(layer.name, _count(layer.macs), f"{layer.cycles:,}", percent(layer.utilization), *stalls)
    table.add_section()
    totals = (_count(sum(layer.stalls.get(cause, 0) for layer in result.layers)) for cause in causes)
    table.add_row(
        "total", _count(result.macs), f"{result.cycles:,}", percent(result.utilization), *totals, style="bold"
    )
    return table


def array_table(result: Result) -> Table:
    """By layer with MACs: how it lay on the array, its busy cycles split into working and empty cells."""
    array = result.accelerator.mac_array
    size = array.rows * array.columns
    table = plain_table(
        "How the layers lie on the array: the cells of its busy cycles",
        (
            "layer",
            "folds",
            "vectors\na fold",
            f"rows used\nof {array.rows}",
            f"columns used\nof {array.columns}",
            "unrolled:\npx x groups",
            "cycles",
            "busy",
            "working\n(ideal)",
            "empty",
            "by\nrows",
            "by\ncolumns",
            "in\nbetween",
        ),
        caption=f"working: MACs / {size:,} cells; empty: the rest of busy, by rows and columns that a fold leaves free "
        "and cells between groups or unrolled pixels",
    )
    _keep_names(table, result)
    for layer in result.layers:
        use = layer.array
        if not use.vectors:
            continue
        empty = (use.empty_rows, use.empty_columns, use.empty_between)
        table.add_row(
            layer.name,
            f"{use.folds:,}",
            f"{use.vectors_per_fold:,.4g}",
            f"{use.rows:.3g}",
            f"{use.columns:.3g}",
            f"{use.unroll_pixels} x {use.unroll_groups}",
            f"{layer.cycles:,}",
            f"{layer.busy:,}",
            f"{layer.working:,.0f}",
            f"{layer.empty:,.0f}",
            *(f"{cells / size:,.0f}" if cells else "-" for cells in empty),
        )
    return table


#: Units beside the array, which the other tables are about.
OTHER_UNITS = ("load", "post", "store", "fetch")


def unit_table(result: Result) -> Table:
    """By layer: the busy cycles of each unit in the layer's window, and the longest of its causes to stand still."""
    units = [unit for unit in OTHER_UNITS if unit in result.units]
    table = plain_table(
        "What the other units did in each layer's cycles",
        ("layer", "cycles", *(f"{unit}\n{what}" for unit in units for what in ("busy", "mostly else"))),
    )
    _keep_names(table, result)
    for layer in result.layers:
        if layer.cycles:
            cells = [cell for unit in units for cell in _unit_cells(layer.units.get(unit, {}))]
            table.add_row(layer.name, f"{layer.cycles:,}", *cells)
    table.add_section()
    cells = [cell for unit in units for cell in _unit_cells(result.units[unit])]
    table.add_row("total", f"{result.cycles:,}", *cells, style="bold")
    return table


def _keep_names(table: Table, result: Result) -> None:
    """Names of usual length are not broken, where there are many columns."""
    table.columns[0].min_width = min(24, max((len(layer.name) for layer in result.layers), default=0))


def _unit_cells(causes: Mapping[str, int]) -> tuple[str, str]:
    stalls = {cause: cycles for cause, cycles in causes.items() if cause != "busy" and cycles}
    longest = max(stalls, key=lambda cause: stalls[cause], default=None)
    return _count(causes.get("busy", 0)), "-" if longest is None else f"{label(longest)} {stalls[longest]:,}"


def traffic_table(result: Result) -> Table:
    """By layer: bytes read from and written to each memory."""
    memories = list(result.traffic)
    columns = ["layer", *(f"{memory}\n{way}" for memory in memories for way in ("read", "written"))]
    table = plain_table("Bytes read and written by memory", columns)
    for layer in result.layers:
        table.add_row(layer.name, *_bytes(layer.traffic, memories))
    table.add_section()
    table.add_row("total", *_bytes(result.traffic, memories), style="bold")
    return table


def run_summary(result: Result) -> str:
    """Totals of a run in one line."""
    machine = result.accelerator
    array = machine.mac_array
    seconds = result.cycles / (machine.clock_mhz * 1e6)
    return (
        f"{result.name} on {machine.name} ({array.rows}x{array.columns} {array.dataflow.replace('_', ' ')}): "
        f"{result.cycles:,} cycles, {duration(seconds)} at {machine.clock_mhz:g} MHz, "
        f"utilisation {percent(result.utilization)}"
    )


def output_table(outputs: Iterable[Output], *, most: int = 12) -> Table:
    """Each output's shape, affine map and first codes."""
    table = plain_table("Outputs", ("name", "shape", "dtype", "scale", "zero point", "codes"), left=3)
    table.columns[-1].justify = "left"
    for output in outputs:
        codes = output.quantized.reshape(-1)
        first = " ".join(str(code) for code in codes[:most].tolist()) + (" …" if codes.size > most else "")
        shape = "x".join(str(size) for size in output.quantized.shape)
        table.add_row(
            output.name, shape, str(output.quantized.dtype), f"{output.scale:.9g}", str(output.zero_point), first
        )
    return table


def verification_table(verification: Verification) -> Table:
    """By layer: outputs compared with PyTorch's, those that differ, and why."""
    columns = ("layer", "outputs compared", "differing", "differing bits", "explained", "unexplained", "cause")
    table = plain_table(f"Every layer beside PyTorch's own ({verification.engine})", columns)
    table.columns[-1].justify = "left"
    for name, layer in verification.rows:
        style = "red" if layer.mismatches else "yellow" if layer.differing else ""
        counts = (layer.compared, layer.differing, layer.differing_bits, layer.explained, layer.mismatches)
        table.add_row(name, *(f"{count:,}" for count in counts), layer.cause, style=style)
    table.add_section()
    differing = sum(layer.differing for _, layer in verification.rows)
    counts = (
        verification.compared,
        differing,
        verification.differing_bits,
        verification.explained,
        verification.mismatches,
    )
    table.add_row("total", *(f"{count:,}" for count in counts), "", style="bold")
    return table


def numbers(values: Iterable[Any], *, most: int = 4) -> str:
    """A few numbers as text; of many, the smallest and largest and how many there are."""
    items = list(values)
    if len(items) <= most:
        return ", ".join(_number(item) for item in items)
    return f"{_number(min(items))} … {_number(max(items))} ({len(items)})"


def _number(value: Any) -> str:
    return f"{value:.7g}" if isinstance(value, float) and math.isfinite(value) else str(value)


def _count(value: int) -> str:
    return f"{value:,}" if value else "-"


def _bytes(traffic: Mapping[str, Any], memories: list[str]) -> list[str]:
    return [_count(getattr(traffic[memory], way)) for memory in memories for way in ("read", "written")]


def value_text(key: str, value: Any) -> str:
    """A configuration's value as a person writes it: sizes in KiB where they come out even."""
    if key.endswith(".bytes") and isinstance(value, int) and value % 1024 == 0:
        return f"{value // 1024}KiB" if value % 1024**2 else f"{value // 1024**2}MiB"
    return str(value)
