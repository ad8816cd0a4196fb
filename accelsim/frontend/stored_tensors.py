"""Tensors as `torch.save` stores them, rebuilt as arrays: every bound is checked before anything is made of it."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from .archive import Archive
from .inert_pickle import Built, Name, Persistent
from .packages import package

_PLAIN = {
    "torch.DoubleStorage": "float64",
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
    "torch.ComplexDoubleStorage": "complex128",
    "torch.ComplexFloatStorage": "complex64",
    "torch.QInt8Storage": "qint8",
    "torch.QUInt8Storage": "quint8",
    "torch.QInt32Storage": "qint32",
    "torch.QUInt4x2Storage": "quint4x2",
    "torch.QUInt2x4Storage": "quint2x4",
}
#: The numpy type whose bits a stored type has, where it is another one.
_BITS = {
    "bfloat16": "uint16",
    "complex32": "V4",
    "qint8": "int8",
    "quint8": "uint8",
    "qint32": "int32",
    "quint4x2": "uint8",
    "quint2x4": "uint8",
    **dict.fromkeys(("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"), "uint8"),
}
_AS_THEY_ARE = (*_PLAIN.values(), "uint16", "uint32", "uint64")
_PACKED = {"quint4x2": 2, "quint2x4": 4}  # codes a byte
_MOST_DIMENSIONS = 32  # numpy before 2.0 has no more
_WIDEST = 16  # bytes of an element
_PLAIN_TYPES = ("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")
_KINDS = {
    "torch._utils._rebuild_sparse_tensor": "a sparse tensor; save it dense (.to_dense())",
    "torch._utils._rebuild_meta_tensor_no_storage": "a meta tensor, which has no data",
    "torch._utils._rebuild_nested_tensor": "a nested tensor; save its parts",
}


class UnsupportedError(Exception):
    """Why no array stands for a tensor that is in order."""


class DamageError(Exception):
    """What is wrong with a tensor, as part of a sentence."""


@dataclass(frozen=True)
class StoredTensor:
    """`array`: values, or the codes of a quantised tensor. `dtype`: as stored, such as "bfloat16" or "quint8".

    bfloat16, float8 and complex32 have no type in numpy and are widened, which changes no value. Quantised: `scale`
    (float64), and `zero_point` (int32; float32 of embeddings whose zero points are real), of length 1 or one a channel
    along `axis`.
    """

    array: np.ndarray
    dtype: str
    scale: np.ndarray | None = None
    zero_point: np.ndarray | None = None
    axis: int | None = None


def is_tensor(item: Any) -> bool:
    """Whether what a pickle holds stands for a tensor, readable or not."""
    function = _function(item)
    return function.startswith("torch._utils._rebuild_") or function == "torch._tensor._rebuild_from_type_v2"


def _function(item: Any) -> str:
    return item.function.path if isinstance(item, Built) and isinstance(item.function, Name) else ""


class TensorReader:
    """Makes arrays of the tensors of one archive.

    Tensors that repeat the elements of their storage (`expand`) take more memory than they have in the file;
    `allowance` in bytes is how much all arrays may take together.
    """

    def __init__(self, archive: Archive, allowance: int) -> None:
        self._archive = archive
        self._left = allowance
        self._storages: dict[str, bytes] = {}

    def read(self, item: Any) -> StoredTensor:
        """Raises UnsupportedError and DamageError."""
        function, arguments = _function(item), item.arguments
        try:
            if function in ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"):
                return self._tensor(*arguments[:4], metadata=arguments[6] if len(arguments) > 6 else None)
            if function == "torch._utils._rebuild_tensor_v3":
                dtype = _name(arguments[6]).removeprefix("torch.")
                return self._tensor(*arguments[:4], dtype=dtype, metadata=arguments[7] if len(arguments) > 7 else None)
            if function == "torch._utils._rebuild_qtensor":
                return self._quantized(*arguments[:5])
            if function.startswith("torch._utils._rebuild_parameter"):
                return self._inner(arguments[0])
            if function == "torch._tensor._rebuild_from_type_v2":
                if _name(arguments[1]) in _PLAIN_TYPES:
                    return self._inner(Built(arguments[0], arguments[2]))
                raise UnsupportedError(f"a {_name(arguments[1])}, a tensor with a class of its own")
        except (TypeError, LookupError, ValueError):
            raise DamageError(f"{function} has arguments of another kind or number") from None
        raise UnsupportedError(_KINDS.get(function, f"made by {function}, which is not read"))

    def _inner(self, item: Any) -> StoredTensor:
        """The tensor in a parameter; one in one in one would be followed without end."""
        if _function(item) not in {f"torch._utils._rebuild_{kind}" for kind in ("tensor_v2", "tensor_v3", "qtensor")}:
            raise UnsupportedError(_KINDS.get(_function(item), "a parameter that holds no plain tensor"))
        return self.read(item)

    def _tensor(
        self, storage: Any, offset: Any, size: Any, stride: Any, *, dtype: str | None = None, metadata: Any = None
    ) -> StoredTensor:
        stored, content = self._storage(storage, dtype)
        if stored in _PACKED:
            raise DamageError(f"it is plain, and its storage holds {stored}")
        view = self._view(content, stored, offset, size, stride)
        array = _widened(view, stored)
        flags = metadata if isinstance(metadata, dict) else {}
        if flags.get("conj"):
            array = array.conj()
        return StoredTensor(-array if flags.get("neg") else array, stored)

    def _quantized(self, storage: Any, offset: Any, size: Any, stride: Any, quantizer: Any) -> StoredTensor:
        stored, content = self._storage(storage, None)
        if not stored.startswith("q"):
            raise DamageError(f"it is quantised, and its storage holds {stored}")
        if stored in _PACKED:
            codes = self._unpacked(content, stored, offset, size, stride)
        else:
            codes = self._view(content, stored, offset, size, stride)
        scheme = _name(quantizer[0]).removeprefix("torch.")
        if scheme == "per_tensor_affine":
            _, scale, zero_point = quantizer
            if type(scale) is not float or type(zero_point) is not int or not -(2**31) <= zero_point < 2**31:
                raise DamageError("its scale is no float, or its zero point no int32")
            return StoredTensor(codes, stored, np.array([scale]), np.array([zero_point], np.int32))
        if scheme not in ("per_channel_affine", "per_channel_affine_float_qparams"):
            raise UnsupportedError(f"quantised with {scheme}")
        _, scales, zero_points, axis = quantizer
        scale, zero_point = (self._inner(part).array for part in (scales, zero_points))
        if type(axis) is not int or not 0 <= axis < codes.ndim:
            raise DamageError(f"its channels are along axis {axis} of {codes.ndim}")
        if scale.shape != (codes.shape[axis],) or zero_point.shape != scale.shape:
            raise DamageError(
                f"it has {codes.shape[axis]} channels, {scale.size} scales, {zero_point.size} zero points"
            )
        return StoredTensor(codes, stored, scale.astype(np.float64), _zero_points(zero_point), axis)

    def _storage(self, item: Any, dtype: str | None) -> tuple[str, bytes]:
        """The stored type of a storage, and its bytes; `dtype`: of the tensor on it where the storage has no type."""
        if not isinstance(item, Persistent):
            raise DamageError("it has no storage")
        kind, type_name, key, _, count = item.identification
        if kind != "storage" or not isinstance(key, str) or type(count) is not int:
            raise DamageError("its storage is not named as torch.save does")
        stored = _PLAIN.get(_name(type_name), "") if dtype is None else dtype
        if stored not in _AS_THEY_ARE and stored not in _BITS:
            raise UnsupportedError(f"of the type {stored or _name(type_name)}")
        width = 1 if dtype is not None and _name(type_name) == "torch.storage.UntypedStorage" else _width(stored)
        found = self._archive.size(f"data/{key}")
        if found is None or found != count * width:
            has = "none" if found is None else f"one of {found:,}"
            raise DamageError(f"its storage {key[:20]!r} should have {count * width:,} bytes, and the file has {has}")
        if key not in self._storages:
            self._storages[key] = self._archive.read(f"data/{key}")
        return stored, self._storages[key]

    def _view(self, content: bytes, stored: str, offset: Any, size: Any, stride: Any) -> np.ndarray:
        """The elements of a tensor where they lie, of the numpy type that has their bits."""
        width = _width(stored)
        shape, strides = _numbers(size), _numbers(stride)
        (start,) = _numbers((offset,))
        if len(shape) != len(strides):
            raise DamageError(f"its shape has {len(shape)} numbers, its strides {len(strides)}")
        count = _elements(shape)
        if not count:
            return np.zeros(shape, _numpy_type(stored))
        last = start + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        if (last + 1) * width > len(content):
            raise DamageError(f"its last element is number {last:,} of {len(content) // width:,} in its storage")
        self._spend(count * width)
        base = np.frombuffer(content, _numpy_type(stored), offset=start * width, count=last + 1 - start)
        return np.lib.stride_tricks.as_strided(base, shape, [step * width for step in strides], writeable=False)

    def _unpacked(self, content: bytes, stored: str, offset: Any, size: Any, stride: Any) -> np.ndarray:
        """Codes of less than a byte, the first in the lowest bits. They lie in order: nothing else can be saved."""
        a_byte = _PACKED[stored]
        shape = _numbers(size)
        count = _elements(shape)
        dense = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
        if _numbers((offset,)) != (0,) or list(_numbers(stride)) != dense:
            raise UnsupportedError(f"a view of {stored} codes; save .contiguous()")
        if -(-count // a_byte) > len(content):
            raise DamageError(f"it has {count:,} codes, and its storage {len(content) * a_byte:,}")
        self._spend(count)
        packed = np.frombuffer(content, np.uint8, count=-(-count // a_byte))
        bits = 8 // a_byte
        codes = (packed[:, None] >> (bits * np.arange(a_byte, dtype=np.uint8))) & ((1 << bits) - 1)
        return codes.astype(np.uint8).reshape(-1)[:count].reshape(shape)

    def _spend(self, size: int) -> None:
        """Take bytes from the allowance."""
        if size > self._left:
            raise UnsupportedError(f"of {size:,} bytes, repeated from fewer in the file; save what it repeats")
        self._left -= size


def _elements(shape: tuple[int, ...]) -> int:
    """How many elements a shape has."""
    if len(shape) > _MOST_DIMENSIONS:
        raise UnsupportedError(f"of {len(shape)} dimensions; {_MOST_DIMENSIONS} can be read")
    if math.prod(n for n in shape if n) * _WIDEST >= sys.maxsize:
        raise DamageError("its shape is larger than any memory")
    return math.prod(shape)


def _name(item: Any) -> str:
    return item.path if isinstance(item, Name) else ""


def _numbers(item: Any) -> tuple[int, ...]:
    """Sizes or strides: none is negative, and none past 64 bits."""
    if isinstance(item, Built) and _function(item) == "torch.Size":
        (item,) = item.arguments
    numbers = tuple(item)
    if any(type(number) is not int or not 0 <= number < 2**63 for number in numbers):
        raise DamageError("its shape, strides or offset are not whole numbers from 0")
    return numbers


def _numpy_type(stored: str) -> np.dtype:
    return np.dtype(_BITS.get(stored, stored))


def _width(stored: str) -> int:
    return _numpy_type(stored).itemsize


def _zero_points(stored: np.ndarray) -> np.ndarray:
    """Those of embeddings are real numbers: their type says so, as it does to PyTorch, and not the scheme's name."""
    if stored.dtype.kind == "f":
        return stored.astype(np.float32)
    if stored.dtype.kind not in "iu" or np.any((stored < -(2**31)) | (stored >= 2**31)):
        raise DamageError("its zero points are not int32")
    return stored.astype(np.int32)


def _widened(view: np.ndarray, stored: str) -> np.ndarray:
    """The values of a type that numpy does not have, in one that holds each of them."""
    if stored == "bfloat16":
        return (view.astype(np.uint32) << 16).view(np.float32)
    if stored == "complex32":
        pairs = np.ascontiguousarray(view).reshape(-1).view(np.float16)
        return pairs.astype(np.float32).view(np.complex64).reshape(view.shape)
    if stored.startswith("float8"):
        return _eight_bits(stored)[view]
    return view


@cache
def _eight_bits(stored: str) -> np.ndarray:
    """The value of each of the 256 codes of a float8 type, as float32."""
    torch = package("torch", f"tensors of {stored}")
    codes = torch.arange(256, dtype=torch.int32).to(torch.uint8)
    return codes.view(getattr(torch, stored)).to(torch.float32).numpy()
