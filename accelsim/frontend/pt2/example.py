"""The example input in a .pt2 file, which PyTorch pickles: read as data; refused where it names what is no tensor."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from accelsim.errors import FormatError
from accelsim.frontend.archive import Archive
from accelsim.frontend.inert_pickle import Built, Name, PickleError, read_pickle
from accelsim.frontend.stored_tensors import DamageError, TensorReader, UnsupportedError, is_tensor
from accelsim.reading import shown

#: What pickles of tensors name: functions that rebuild them, types, storages, and the dict of their hooks.
_INERT = re.compile(
    r"torch\._utils\._rebuild_\w+|torch\._tensor\._rebuild_from_type_v2|collections\.OrderedDict|torch\.Size|"
    r"torch\.(\w+Storage|storage\.UntypedStorage)|torch\.(b?float|u?int|bool|complex)\w*|"
    r"torch\.(Tensor|nn\.parameter\.(Parameter|Buffer))"
)
#: Tensors that repeat their elements may take this many times the file's size.
_ALLOWANCE_TIMES = 16


def read_example(archive: Archive, entry: str, remedy: str, size: int) -> tuple[np.ndarray, ...] | None:
    """The arrays that a model was exported with; None where there are none, or other arguments than plain tensors.

    `size`: bytes of the whole file. Raises FormatError for what is damaged, and for a pickle that names something else
    than tensors; nothing that it names is called.
    """
    if not archive.size(entry):
        return None
    where = f"{archive.path}: {entry}"
    inner = Archive(where, archive.read(entry), remedy)
    try:
        pickled = read_pickle(inner.read("data.pkl"))
        for name in _names(pickled):
            if not _INERT.fullmatch(name):
                raise FormatError(f"{where}: a pickle that names {shown(name)}, no tensor; it was not run. {remedy}")
        arguments = pickled[0] if isinstance(pickled, tuple) and len(pickled) == 2 and not pickled[1] else None
        if not isinstance(arguments, tuple) or not all(map(is_tensor, arguments)):
            return None
        reader = TensorReader(inner, _ALLOWANCE_TIMES * size)
        return tuple(reader.read(item).array for item in arguments)
    except PickleError as error:
        raise FormatError(f"{where}: {error}; {remedy}") from None
    except DamageError as error:
        raise FormatError(f"{where}: a damaged tensor: {error}; {remedy}") from None
    except UnsupportedError:
        return None
    finally:
        inner.close()


def _names(pickled: Any) -> Iterator[str]:
    """What a pickle names, wherever in it."""
    open_, seen = [pickled], set()
    while open_:
        item = open_.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Name):
            yield item.path
        elif isinstance(item, Built):
            open_ += [item.function, item.arguments]
        elif isinstance(item, dict):
            open_ += item.values()
        elif isinstance(item, list | tuple):
            open_ += item
