"""Where pictures go. Nothing here draws, so a place can be checked before matplotlib is needed."""

from __future__ import annotations

from pathlib import Path

from accelsim.errors import WriteError
from accelsim.escaping import file_name
from accelsim.files import check_writable, is_special


def default_path(name: str, what: str) -> Path:
    """Where a picture goes that was given no place: in `results`, whatever the name of network or program is."""
    return Path("results") / f"{file_name(name)}_{what}.png"


def picture_paths(path: str | Path) -> tuple[Path, ...]:
    """The files of a picture: PNG and SVG beside each other; a pipe or a device takes the PNG alone.

    Raises WriteError for the ending of another format.
    """
    path = Path(path)
    if path.name and is_special(path):
        return (path,)
    if not path.name or path.suffix.lower() not in ("", ".png", ".svg"):
        raise WriteError(f"{path}: a picture is written as .png and .svg; give a name with one of these endings")
    return path.with_suffix(".png"), path.with_suffix(".svg")


def check_picture(path: str | Path) -> None:
    """Raises WriteError where `save` would, as far as that can be known before there is a picture."""
    for file in picture_paths(path):
        check_writable(file, make_folders=True)
