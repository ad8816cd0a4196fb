"""Writing files: beside their place, renamed when whole. What stood there before stays until then, and after a failure.

Pipes, devices and open files (`/dev/stdout`) have no place beside them and are written directly.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from .errors import WriteError
from .escaping import printable

_MOST_LINKS = 40
#: A path under one of these names what the process has open, or the kernel's own state.
_WITHOUT_PLACES = ("/proc/", "/dev/fd", "/sys/")


class Write(Protocol):
    """Takes the path of a file and what it is to hold, text as UTF-8."""

    def __call__(self, path: str | Path, content: bytes | str) -> None: ...


def write(path: str | Path, content: bytes | str) -> None:
    """Write one file. Raises WriteError, after which it is as it was before."""
    with replacing() as put:
        put(path, content)


@contextlib.contextmanager
def replacing() -> Iterator[Write]:
    """Write several files that belong together: none of them is replaced until all are on the disk.

    Raises WriteError, after which all are as they were before, as after every other exception in the block.
    """
    waiting: list[tuple[str, str, Path]] = []

    def put(path: str | Path, content: bytes | str) -> None:
        data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
        with _said(path):
            target = _place(path)
            if target is None:
                with open(path, "wb") as file:
                    file.write(data)
                return
            waiting.append((_beside(target), target, Path(path)))
            _fill(waiting[-1][0], target, data)

    try:
        yield put
        while waiting:
            temporary, target, path = waiting[0]
            with _said(path):
                os.replace(temporary, target)
                del waiting[0]
                _settle(os.path.dirname(target))
    finally:
        for temporary, _, _ in waiting:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def check_writable(path: str | Path, *, make_folders: bool = False) -> None:
    """Raises WriteError where `path` cannot be written as things are now: before the work that makes what it will hold.

    With `make_folders`, folders on the way that are missing are no fault.
    """
    with _said(path):
        target = _place(path)
        if target is None:
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        probe = _beside(target)
        folder = os.path.dirname(probe)
        while make_folders and not os.path.lexists(folder):
            folder = os.path.dirname(folder)
        probe = os.path.join(folder, os.path.basename(probe))
        os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        os.unlink(probe)


def check_folder(path: str | Path) -> None:
    """Raises WriteError where files cannot be written into the folder `path`, which need not exist yet."""
    if os.path.isdir(path):
        check_writable(Path(path) / "probe")
        return
    with _said(path):
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, "it is no folder")
    check_writable(Path(path) / "probe", make_folders=True)


def make_folder(path: str | Path) -> None:
    """Make a folder and those above it, if they are missing. Raises WriteError."""
    with _said(path):
        os.makedirs(path, exist_ok=True)


def is_special(path: str | Path) -> bool:
    """Whether `path` is a pipe, a device or an open file. Raises WriteError for what cannot be a file."""
    with _said(path):
        return _place(path) is None


def _place(path: str | Path) -> str | None:
    """Where the file of that name lies, behind links; None for a pipe, a device or an open file. Raises OSError."""
    target = os.path.join(os.getcwd(), os.fspath(path))
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        return None
    for _ in range(_MOST_LINKS):
        if os.path.realpath(os.path.dirname(target)).startswith(_WITHOUT_PLACES):
            return None
        if not os.path.islink(target):
            break
        target = os.path.join(os.path.dirname(target), os.readlink(target))
    if os.path.exists(target) and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return target


def _beside(target: str) -> str:
    """A free name in the same folder, of a length that every file system takes."""
    return os.path.join(os.path.dirname(target), f".accelsim-{secrets.token_hex(8)}.tmp")


def _fill(temporary: str, target: str, data: bytes) -> None:
    """Write the temporary file to the disk, with the permissions of the file that it will replace."""
    # What a new file may be read and written by is the umask's matter.
    with open(
        os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o666), "wb"
    ) as file:
        if os.path.exists(target):
            os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _settle(folder: str) -> None:
    """Bring a folder's new names to the disk, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _said(path: str | Path) -> Iterator[None]:
    """What the system says of a path as a WriteError."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise WriteError(f"{_shown(path)}: cannot be written ({reason}); {_remedy(error.errno, Path(path))}") from None
    except ValueError as error:  # NUL, or half a surrogate pair
        raise WriteError(f"{_shown(path)}: cannot be the name of a file ({error}); give another") from None


def _shown(path: str | Path) -> str:
    text = printable(os.fspath(path)) or "''"
    return text if len(text) <= 300 else f"{text[:299]}…"


def _remedy(number: int | None, path: Path) -> str:
    if number == errno.ENOENT:
        return f"there is no folder {_shown(path.parent)}: make it, or give another place"
    return _REMEDIES.get(number, "give another place")


_REMEDIES: dict[int | None, str] = {
    errno.ENOSPC: "make room on that disk, or give a place on another",
    errno.EDQUOT: "make room within your quota, or give a place on another disk",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), or give a place on another disk",
    errno.EACCES: "give a place that you may write to, or change the permissions of the file and its folder",
    errno.EPERM: "give a place that you may write to, or change the permissions of the file and its folder",
    errno.EROFS: "give a place on a disk that can be written",
    errno.EISDIR: "it is a folder: give the name of a file",
    errno.ENOTDIR: "a part of the path is a file, not a folder: give another place",
    errno.EEXIST: "give the name of a folder, or one that is free",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "its links lead round in a circle: give another place",
    errno.EPIPE: "its reader has gone away",
}
