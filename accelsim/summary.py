"""What an object says of itself where it stands alone: a few lines in a terminal, a small table in a notebook."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from accelsim.escaping import printable, shortened

#: Lines of a text, title and facts, and rows of a table; a name as long as this is cut.
_MOST_LINES, _MOST_ROWS, _LONGEST = 10, 100, 120
_STYLE = "text-align:left;font-variant-numeric:tabular-nums"


@dataclass(frozen=True)
class Summary:
    """`title` in a line, `facts`: a word and what is said of it; for a notebook a table of `columns` and `rows`."""

    title: str
    facts: Sequence[tuple[str, str]] = ()
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()

    def text(self) -> str:
        """One to ten lines."""
        lines = [self.title, *(f"  {name}: {said}" for name, said in self.facts[: _MOST_LINES - 1])]
        return "<" + "\n".join(shortened(printable(line), _LONGEST) for line in lines) + ">"

    def html(self) -> str:
        """The same for a notebook, with the table; of more than 100 rows the first."""
        parts = [f"<div><strong>{_escaped(self.title)}</strong>", "<table>"]
        parts += [_row([name, said], head=1) for name, said in self.facts]
        parts.append("</table>")
        if self.rows:
            parts += ["<table>", _row(self.columns, head=len(self.columns))]
            parts += [_row(row) for row in self.rows[:_MOST_ROWS]]
            parts.append("</table>")
            if len(self.rows) > _MOST_ROWS:
                parts.append(f"<p>and {len(self.rows) - _MOST_ROWS:,} more</p>")
        return "".join([*parts, "</div>"])


class Shown:
    """Something that is shown by its summary."""

    def summary(self) -> Summary:
        """What it says of itself."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return self.summary().text()

    def __str__(self) -> str:
        return self.summary().text()

    def _repr_html_(self) -> str:
        return self.summary().html()


def counted(items: Iterable[tuple[str, int]]) -> str:
    """How many there are of each: `9 mac, 3 load`."""
    return ", ".join(f"{count:,} {name}" for name, count in items)


def tensors(items: Iterable[tuple[str, Sequence[int], str]]) -> str:
    """Names with shapes and dtypes: `x 1 x 3 x 32 x 32 uint8`; of many, the first."""
    said = [f"{name} {' x '.join(map(str, shape)) or 'scalar'} {dtype}" for name, shape, dtype in items]
    if not said:
        return "none"
    return ", ".join(said[:4]) + (f" and {len(said) - 4} more" if len(said) > 4 else "")


def _escaped(text: str) -> str:
    return html.escape(printable(text))


def _row(cells: Sequence[str], head: int = 0) -> str:
    tags = ["th" if place < head else "td" for place in range(len(cells))]
    found = (f'<{tag} style="{_STYLE}">{_escaped(cell)}</{tag}>' for tag, cell in zip(tags, cells, strict=True))
    return f"<tr>{''.join(found)}</tr>"
