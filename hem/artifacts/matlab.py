"""MATLAB files, read without trusting them.

Source: MATLAB's "MAT-File Format" document, level 5 (versions 5 to 7.2). Numbers, texts, cells and
structures are read, which is what data sets put there; sparse arrays, objects and functions are refused.
The usual reader ends the whole process on some damaged files, so this one checks every length itself.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hem.errors import HemError

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_STORED = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
_TEXTS = {1: "latin-1", 2: "utf-8", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_CELL, _STRUCT, _CHAR = 1, 2, 4
_NUMBERS = {
    6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8",
}  # fmt: skip
_DEEPEST = 32
_COMPLEX = 0x0800


class _DamagedError(Exception):
    """What is wrong with a file; becomes a HemError that names it."""


def read_mat(path: Path, limit: int = 256 << 20) -> dict[str, Any]:
    """Return the variables of a MATLAB file.

    Args:
        path: the file.
        limit: bytes that the file, and each of its variables unpacked, may have at most.

    Returns:
        By name: numbers as arrays of their shape, texts as str (the first row of several), cells as
        object arrays, structures as object arrays of SimpleNamespace. ``plain`` takes the shapes away.

    Raises:
        HemError: if it is absent, too large, damaged, of version 4 or 7.3, or holds what is not read.
    """
    try:
        size = path.stat().st_size
        if size > limit:
            raise HemError(f"{path} has {size} bytes, more than the {limit} expected of such a file")
        content = path.read_bytes()
    except OSError as error:
        raise HemError(f"{path} cannot be read: {error.strerror or error}") from None
    try:
        order = _byte_order(content)
        return dict(_variables(content, order, limit))
    except (_DamagedError, UnicodeDecodeError, ValueError, OverflowError, zlib.error) as error:
        raise HemError(f"{path} is not a readable MATLAB file: {str(error)[:120]}") from None


def plain(value: Any) -> Any:  # noqa: ANN401 - whatever a file holds
    """Return a value with single items instead of arrays of one, and no axis of length 1."""
    if isinstance(value, SimpleNamespace):
        return SimpleNamespace(**{name: plain(one) for name, one in vars(value).items()})
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype == object:
        items = np.empty(value.size, dtype=object)
        items[:] = [plain(one) for one in value.reshape(-1, order="F")]
        value = items.reshape(value.shape, order="F")
    if value.size <= 1:
        return value.reshape(-1)[0] if value.size else value.reshape(-1)
    return value.squeeze()


def _byte_order(content: bytes) -> str:
    if content[:10] == b"MATLAB 7.3" or content[:8] == b"\x89HDF\r\n\x1a\n":
        raise _DamagedError("version 7.3; save it again with '-v7'")
    if len(content) < _HEADER or content[126:128] not in (b"IM", b"MI"):
        raise _DamagedError("it has no header of version 5 to 7.2")
    return "<" if content[126:128] == b"IM" else ">"


def _elements(content: bytes, order: str, padded: bool = True) -> Iterator[tuple[int, bytes]]:
    """Yield (type, data) of the elements one after the other."""
    at = 0
    while at < len(content):
        if at + 8 > len(content):
            raise _DamagedError("it ends within an element")
        kind, length = struct.unpack_from(f"{order}II", content, at)
        if kind >> 16:  # type, length and data share eight bytes
            kind, length, start, step = kind & 0xFFFF, kind >> 16, at + 4, 8
            if length > 4:
                raise _DamagedError(f"a small element of {length} bytes")
        else:
            start = at + 8
            step = 8 + (length if kind == _COMPRESSED or not padded else -(-length // 8) * 8)
        if start + length > len(content):
            raise _DamagedError("an element is longer than the file")
        yield kind, content[start : start + length]
        at += step


def _variables(content: bytes, order: str, limit: int) -> Iterator[tuple[str, Any]]:
    for kind, data in _elements(content[_HEADER:], order):
        if kind == _COMPRESSED:
            unpacker = zlib.decompressobj()
            unpacked = unpacker.decompress(data, limit)
            if not unpacker.eof:
                raise _DamagedError("a compressed variable is cut short or too large")
            kind, data = _first(unpacked, order)
        if kind != _MATRIX:
            raise _DamagedError(f"an element of type {kind} where a variable should be")
        yield _array(data, order, 0)


def _first(content: bytes, order: str) -> tuple[int, bytes]:
    for kind, data in _elements(content, order):
        return kind, data
    raise _DamagedError("an empty variable")


def _array(data: bytes, order: str, depth: int) -> tuple[str, Any]:
    """Return (name, value) of one array element."""
    if depth > _DEEPEST:
        raise _DamagedError(f"cells and structures are nested more than {_DEEPEST} deep")
    if not data:
        return "", np.zeros((0, 0))
    parts = _elements(data, order)
    flags = _integers(parts, order, "flags")
    shape = tuple(_integers(parts, order, "shape"))
    name = _next(parts, "name")[1].decode("latin-1")
    if len(flags) < 1 or not 1 <= len(shape) <= 32 or any(side < 0 for side in shape):
        raise _DamagedError(f"an array of shape {shape[:4]}")
    count, kind = math.prod(shape), flags[0] & 0xFF
    if count > len(data) and kind != _STRUCT:
        raise _DamagedError(f"an array of shape {shape[:4]} in {len(data)} bytes")
    if kind == _CELL:
        return name, _filled(shape, [_inner(parts, order, depth) for _ in range(count)])
    if kind == _STRUCT:
        return name, _structures(parts, shape, count, len(data), order, depth)
    if kind == _CHAR:
        return name, _text(parts, shape, count, order)
    if kind in _NUMBERS and not flags[0] & _COMPLEX:
        stored, body = _next(parts, "numbers")
        values = _numbers(stored, body, order)
        if len(values) != count:
            raise _DamagedError(f"{len(values)} numbers for the shape {shape[:4]}")
        with np.errstate(invalid="ignore", over="ignore"):
            return name, values.astype(_NUMBERS[kind]).reshape(shape, order="F")
    raise _DamagedError(f"an array of class {kind} is not read")


def _structures(
    parts: Iterator[tuple[int, bytes]], shape: tuple[int, ...], count: int, size: int, order: str, depth: int
) -> NDArray[np.object_]:
    (width, *_) = _integers(parts, order, "length of field names") or [0]
    table = _next(parts, "field names")[1]
    width = max(width, 1)
    if len(table) % width or count * max(1, len(table) // width) > size:
        raise _DamagedError("a structure's fields do not fit")
    names = [table[at : at + width].split(b"\0")[0].decode("latin-1") for at in range(0, len(table), width)]
    rows = [{name: _inner(parts, order, depth) for name in names} for _ in range(count)]
    return _filled(shape, [SimpleNamespace(**row) for row in rows])


def _inner(parts: Iterator[tuple[int, bytes]], order: str, depth: int) -> Any:  # noqa: ANN401
    kind, data = _next(parts, "an item")
    if kind != _MATRIX:
        raise _DamagedError(f"an element of type {kind} where an array should be")
    return _array(data, order, depth + 1)[1]


def _text(parts: Iterator[tuple[int, bytes]], shape: tuple[int, ...], count: int, order: str) -> str:
    kind, data = _next(parts, "text") if count else (16, b"")
    if kind not in _TEXTS:
        raise _DamagedError(f"text of type {kind}")
    wide = {"utf-16": "-le" if order == "<" else "-be", "utf-32": "-le" if order == "<" else "-be"}
    text = data.decode(_TEXTS[kind] + wide.get(_TEXTS[kind], ""))
    if len(text) != count:
        raise _DamagedError(f"{len(text)} characters for the shape {shape[:4]}")
    return text[:: shape[0]] if count else ""  # column by column: the first row


def _integers(parts: Iterator[tuple[int, bytes]], order: str, what: str) -> list[int]:
    kind, data = _next(parts, what)
    values = _numbers(kind, data, order)
    if values.dtype.kind not in "iu":
        raise _DamagedError(f"{what} are not whole numbers")
    return [int(value) for value in values]


def _numbers(kind: int, data: bytes, order: str) -> NDArray[Any]:
    if kind not in _STORED:
        raise _DamagedError(f"numbers of type {kind}")
    return np.frombuffer(data, dtype=np.dtype(f"{order}{_STORED[kind]}"))


def _next(parts: Iterator[tuple[int, bytes]], what: str) -> tuple[int, bytes]:
    found = next(parts, None)
    if found is None:
        raise _DamagedError(f"{what} missing")
    return found


def _filled(shape: tuple[int, ...], items: list[Any]) -> NDArray[np.object_]:
    """Return items as an object array of a shape, column by column."""
    flat = np.empty(len(items), dtype=object)
    for index, item in enumerate(items):
        flat[index] = item
    return flat.reshape(shape, order="F")
