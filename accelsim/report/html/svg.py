"""A figure of matplotlib as SVG inside a page: it takes the page's colours of ink and grid, and says what it shows."""

from __future__ import annotations

import io
import re
from contextlib import AbstractContextManager
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

from accelsim.escaping import whole_characters

#: Colours that stand for the page's own: text and axes, grid lines.
INK, GRID = "#010101", "#020202"
_PAGE_COLOURS = {INK: "currentColor", GRID: "var(--grid)"}

_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"
#: Text as text, so that it is found, read aloud and read back; the same figure is the same bytes.
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "accelsim",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "hatch.linewidth": 0.6,
}

ElementTree.register_namespace("", _SVG)


def styled() -> AbstractContextManager[None]:
    """The context in which figures for the page are made."""
    return rc_context(_STYLE)


def inline(figure: Figure, name: str, description: str) -> Markup:
    """The figure as an `svg` element; `name` makes its ids unique on the page, `description` is read in its place."""
    content = io.BytesIO()
    with styled():
        figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(content.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith("}metadata"):
                parent.remove(child)
        _adapt(parent, name)
    width = float(figure.get_size_inches()[0])
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.set("role", "img")
    root.set("aria-label", whole_characters(description))
    root.set("style", f"width:100%;max-width:{width:g}in;height:auto")
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _adapt(element: ElementTree.Element, name: str) -> None:
    """Ids of the figure's own, colours of the page's."""
    for key, value in list(element.attrib.items()):
        if key == "id":
            element.set(key, f"{name}-{value}")
        elif key == _LINK:
            del element.attrib[_LINK]
            element.set("href", f"#{name}-{value.removeprefix('#')}")
        else:
            value = re.sub(r"url\(#", f"url(#{name}-", value)
            for colour, page in _PAGE_COLOURS.items():
                value = value.replace(colour, page)
            element.set(key, value)
