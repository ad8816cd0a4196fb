"""What a file holds, by its content: no name decides, and nothing in the file is executed."""

from __future__ import annotations

import os
import stat
import zipfile

from accelsim.container import kind_of
from accelsim.frontend.archive import STATE_DICT, archive_kind

from .status import CallError

NETWORK, PROGRAM, ONNX, TOPOLOGY = "accelsim-network", "accelsim-program", "onnx", "topology"
_NUMPY_ARCHIVE, _NUMPY, _PICKLE, _OLD, _MOBILE = "npz", "npy", "pickle", "torch.save before 1.6", "mobile TorchScript"
_EXECUTORCH, _TFLITE, _GGUF, _HDF5 = "ExecuTorch", "TensorFlow Lite", "GGUF", "HDF5"

#: How files begin.
_MAGIC = (
    (0, b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", _OLD),
    (0, b"\x80", _PICKLE),
    (0, b"\x93NUMPY", _NUMPY),
    (4, b"PTMF", _MOBILE),
    (4, b"ET1", _EXECUTORCH),
    (4, b"TFL3", _TFLITE),
    (0, b"GGUF", _GGUF),
    (0, b"\x89HDF\r\n\x1a\n", _HDF5),
)
#: What is said of a file that is no model.
_WORDS = {
    STATE_DICT: "a state_dict, which has no graph; `accelsim extract` lists it; give the model as module:callable",
    _OLD: "saved by a PyTorch before 1.6, as a pickle that executes code; if you trust it, load it with PyTorch and "
    "save its state_dict anew",
    _PICKLE: "a pickle, which executes code when it is loaded; it is never read",
    _NUMPY: "an array of numpy; give it with --input",
    _NUMPY_ARCHIVE: "an archive of arrays of numpy (.npz), not a model",
    _EXECUTORCH: "a program of ExecuTorch (.pte), whose layers are lowered already; save the quantised graph "
    "before that with torch.export.save (.pt2)",
    _TFLITE: "a model of TensorFlow Lite, which is not read; convert it to ONNX (tf2onnx)",
    _GGUF: "weights in GGUF, without a graph; give the model as module:callable",
    _HDF5: "an HDF5 file (Keras, perhaps), which is not read; convert the model to ONNX (tf2onnx)",
    _MOBILE: "TorchScript for mobile devices, which cannot be read; save the module with torch.jit.save",
}


def is_there(argument: str) -> bool:
    """Whether a file of this name can be opened for reading, or a word must be said about why it cannot.

    Raises CallError for directories, pipes and devices (they may have no end), and for files that cannot be read.
    """
    try:
        found = os.stat(argument)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: NUL in the name
        return False
    except OSError as error:
        raise CallError(f"{argument[:200]}: cannot be read ({error.strerror})") from None
    if not stat.S_ISREG(found.st_mode):
        kind = "a directory" if stat.S_ISDIR(found.st_mode) else "a pipe or a device"
        raise CallError(f"{argument}: {kind}, not a file; give a file")
    try:
        os.close(os.open(argument, os.O_RDONLY))
    except OSError as error:
        raise CallError(f"{argument}: cannot be read ({error.strerror})") from None
    return True


def file_kind(argument: str) -> str | None:
    """NETWORK, PROGRAM, ONNX, TOPOLOGY, SCRIPT, EXPORTED, STATE_DICT or another word.

    None for no file, and for unknown content.

    Raises CallError as `is_there` does.
    """
    if not is_there(argument):
        return None
    # First: such a file begins with the length of its header, whose bytes can be those of any other kind.
    own = saved_kind(argument)
    if own is not None:
        return own
    with open(argument, "rb") as file:
        start = file.read(32)
    if start.startswith(b"PK"):
        return archive_kind(argument) or (_NUMPY_ARCHIVE if _is_npz(argument) else None)
    for offset, magic, kind in _MAGIC:
        if start[offset : offset + len(magic)] == magic:
            return kind
    from accelsim.network.topology import is_topology

    if is_topology(argument):
        return TOPOLOGY
    from accelsim.frontend.onnx import is_onnx

    return ONNX if is_onnx(argument) else None


def saved_kind(argument: str) -> str | None:
    """What a file that this package wrote holds; None for every other file, and for no file."""
    try:
        return kind_of(argument) if is_there(argument) else None
    except CallError:
        return None


def no_model(argument: str, kind: str | None, taken: str) -> CallError:
    """The error for a file that is there and holds no model; `taken`: what would have been one."""
    if kind in _WORDS:
        return CallError(f"{argument}: {_WORDS[kind]}")
    empty = os.path.getsize(argument) == 0
    return CallError(f"{argument}: {'an empty file' if empty else 'its content is of no known kind'}; give {taken}")


def _is_npz(argument: str) -> bool:
    try:
        with zipfile.ZipFile(argument) as archive:
            names = archive.namelist()
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile):
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)
