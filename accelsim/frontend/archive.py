"""The zip archives that PyTorch writes: what kind a file is, by its content, and its entries, at no more than its size.

PyTorch stores entries as they are. So an entry that is compressed, or entries that together are larger than the file,
were made by something else, perhaps to exhaust a reader; they are refused before anything is read.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from accelsim.errors import FormatError

#: What zipfile raises for archives that are cut, encrypted, or lie about themselves.
_DAMAGE = (zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError, NotImplementedError, OverflowError)

SCRIPT, EXPORTED, STATE_DICT = "TorchScript", "torch.export", "state_dict"


def archive_kind(path: str | Path) -> str | None:
    """SCRIPT, EXPORTED or STATE_DICT for a zip archive that PyTorch wrote; None for every other file."""
    if not Path(path).is_file():
        return None  # a pipe would be waited for
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
    except _DAMAGE:
        return None
    if names & {"archive_format", "serialized_exported_program.json"}:
        return EXPORTED
    # `model.json` is how PyTorch before 1.4 saved TorchScript; torch.jit.load still runs it.
    if names & {"constants.pkl", "model.json"}:
        return SCRIPT
    return STATE_DICT if "data.pkl" in names else None


class Archive:
    """The entries of an archive that PyTorch wrote, without their common folder. Raises FormatError.

    `path`: how errors name it; `content`: an archive that is not a file of its own. `remedy`: what writes a new one.
    """

    def __init__(
        self,
        path: str | Path,
        content: bytes | None = None,
        remedy: str = "torch.save(model.state_dict(), path) writes a new one",
    ) -> None:
        self.path, self._remedy = path, remedy
        try:
            self._zip = zipfile.ZipFile(path if content is None else io.BytesIO(content))
        except _DAMAGE as error:
            raise self._damaged(f"it is none of the archives that PyTorch writes, or cut ({error})") from None
        self._entries: dict[str, zipfile.ZipInfo] = {}
        for entry in self._zip.infolist():
            name = entry.filename.partition("/")[2] or entry.filename
            if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
                raise self._damaged(f"its entry {name!r} is compressed or encrypted, which PyTorch does not do")
            if name in self._entries:
                raise self._damaged(f"it has two entries {name!r}")
            self._entries[name] = entry
        size = sum(entry.file_size for entry in self._entries.values())
        whole = Path(path).stat().st_size if content is None else len(content)
        if size > whole:
            raise self._damaged(f"its entries are {size:,} bytes together, and the whole file {whole:,}")

    def _damaged(self, why: str) -> FormatError:
        # Names of entries, which zipfile's errors repeat, may have 65,535 characters.
        return FormatError(f"{self.path}: {why[:300]}; {self._remedy}")

    @property
    def names(self) -> tuple[str, ...]:
        """What the entries are called."""
        return tuple(self._entries)

    def size(self, name: str) -> int | None:
        """Bytes of an entry, None where there is none."""
        return self._entries[name].file_size if name in self._entries else None

    def read(self, name: str) -> bytes:
        """An entry, checked against the sum that the archive holds of it."""
        if name not in self._entries:
            raise self._damaged(f"it has no entry {name!r}")
        try:
            return self._zip.read(self._entries[name])
        except _DAMAGE as error:
            raise self._damaged(f"its entry {name!r} is damaged ({error})") from None

    def close(self) -> None:
        """Close the file."""
        self._zip.close()
