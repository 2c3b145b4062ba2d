"""Reading what others wrote: names that stay inside the dataset's root, bounded files, named errors."""

import json
import math
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from hem.errors import HemError

MAX_ANNOTATION_BYTES = 2 << 30  # the largest published annotation file hem reads is about 1.2 GB
MAX_TEXT_BYTES = 256 << 20
_MAX_NAME = 1024
_MAX_PART = 255  # bytes of one name between two '/'; file systems raise beyond it
_Value = TypeVar("_Value")


def inside(root: Path, name: str, where: str = "a name") -> Path:
    """Return ``root / name``, sure to lie inside ``root``.

    ``name`` is a POSIX path relative to ``root``. Links are followed before the check, so a link
    inside the root that points out of it is refused; the root itself may be a link.

    Raises:
        HemError: if the name is empty, absolute, holds ``..``, a backslash or a control
            character, is longer than 1024 bytes or a part of it than 255, or leads out of the root.
    """
    shown = repr(name[:80])
    try:
        encoded = name.encode("utf-8")
    except UnicodeEncodeError:
        raise HemError(f"{where}: {shown} is not a legal file name") from None
    too_long = len(encoded) > _MAX_NAME or max(map(len, encoded.split(b"/"))) > _MAX_PART
    if not name.strip() or too_long or any(ord(char) < 32 or ord(char) == 127 for char in name):
        raise HemError(f"{where}: {shown} is not a legal file name")
    if "\\" in name or re.match(r"[A-Za-z]:", name) or name.startswith(("/", "~")):
        raise HemError(f"{where}: {shown} must be a path relative to {root}, written with '/'")
    if ".." in PurePosixPath(name).parts:
        raise HemError(f"{where}: {shown} leads out of {root}; '..' is not allowed in a dataset")
    path = root / name
    top = os.path.realpath(root)
    if os.path.commonpath([top, os.path.realpath(path)]) != top:
        raise HemError(f"{where}: {shown} is a link that leads out of {root}; put the files there themselves")
    return path


def need(path: Path, how_to: str, *, directory: bool = False) -> Path:
    """Return ``path`` if it is there; otherwise raise HemError with ``how_to`` get it."""
    if not (path.is_dir() if directory else path.is_file()):
        kind = "folder" if directory else "file"
        raise HemError(f"{path} is not there (a {kind} is expected). {how_to}")
    return path


def _bytes_of(path: Path, limit: int) -> bytes:
    try:
        size = path.stat().st_size
        if size > limit:
            raise HemError(f"{path} has {size} bytes, more than the {limit} expected of such a file")
        return path.read_bytes()
    except OSError as error:
        raise HemError(f"{path} cannot be read: {error.strerror or error}") from None


def read_text(path: Path, limit: int = MAX_TEXT_BYTES) -> str:
    """Return a UTF-8 text file (a byte-order mark is dropped).

    Raises:
        HemError: if it cannot be read, is larger than ``limit`` bytes, or is not UTF-8.
    """
    content = _bytes_of(path, limit)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise HemError(f"{path} is not UTF-8 text (byte {error.start}); convert it to UTF-8") from None


def read_lines(path: Path, limit: int = MAX_TEXT_BYTES) -> list[str]:
    """Return the lines of a UTF-8 text file, without line ends (LF or CRLF) and outer blanks."""
    return [line.strip() for line in read_text(path, limit).split("\n")]


def read_json_file(path: Path, limit: int = MAX_ANNOTATION_BYTES) -> object:
    """Return what a JSON file holds.

    Raises:
        HemError: if it cannot be read, is too large, or is not JSON.
    """
    content = _bytes_of(path, limit)
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise HemError(f"{path} is not readable JSON: {str(error)[:200]}") from None


def number(value: object, where: str) -> float:
    """Return ``value`` (text or a number) as a float; NaN and infinity pass, to be judged as a box.

    Raises:
        HemError: if it is neither a number nor the text of one.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise HemError(f"{where}: {str(value)[:60]!r} is not a number")
    try:
        return float(value)
    except ValueError:
        raise HemError(f"{where}: {str(value)[:60]!r} is not a number") from None
    except OverflowError:
        return math.inf


def whole_number(value: object, where: str, lowest: int = 0, highest: int = 1 << 53) -> int:
    """Return ``value`` as an int in [lowest, highest].

    Raises:
        HemError: if it is no whole number or outside the range.
    """
    found = number(value, where)
    if not math.isfinite(found) or found != int(found) or not lowest <= found <= highest:
        raise HemError(f"{where}: {str(value)[:60]!r} must be a whole number from {lowest} to {highest}")
    return int(found)


def mapping_of(value: object, where: str) -> dict[str, Any]:
    """Return ``value`` if it is a JSON object; otherwise raise HemError."""
    if not isinstance(value, dict):
        raise HemError(f"{where}: expected an object, found {type(value).__name__}")
    return value


def one_of(mapping: object, key: str, kind: type[_Value], where: str) -> _Value:
    """Return ``mapping[key]`` after checking that the one is a JSON object and the other of ``kind``."""
    found = mapping_of(mapping, where)
    if key not in found:
        raise HemError(f"{where}: {key!r} is missing")
    value = found[key]
    if not isinstance(value, kind):
        raise HemError(f"{where}: {key!r} must be a {kind.__name__}, found {type(value).__name__}")
    return value
