"""The configurations that come along with the package, by name."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable

from accelsim.errors import ConfigurationError

_SUFFIX = ".yaml"


def names() -> tuple[str, ...]:
    """The names, sorted; `Accelerator.from_yaml` takes each of them."""
    return tuple(sorted(item.name.removesuffix(_SUFFIX) for item in _folder().iterdir() if item.name.endswith(_SUFFIX)))


def text(name: str) -> str:
    """The YAML text of one of them, remarks included. Raises ConfigurationError for another name."""
    if name not in names():
        raise ConfigurationError(f"{name}: no configuration of this name comes along; there are {', '.join(names())}")
    return _folder().joinpath(name + _SUFFIX).read_text(encoding="utf-8")


def summary(name: str) -> str:
    """The remark that the file of that name begins with."""
    return text(name).partition("\n")[0].removeprefix("#").strip()


def _folder() -> Traversable:
    return files("accelsim") / "configs"
