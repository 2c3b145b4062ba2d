"""Reading other programs' text and JSON, with errors that name the file and the line."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hem.errors import HemError

_BIGGEST = 1e9  # px; beyond it areas lose whole pixels in float64 and the number is surely damage


def text_lines(content: bytes, name: str) -> list[str]:
    """Return the lines of a text file, without line ends.

    Raises:
        HemError: if it is not UTF-8 text.
    """
    try:
        return [line.strip() for line in content.decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise HemError(f"{name} is not a text file (byte {error.start} is not UTF-8)") from None


def read_bytes(path: Path) -> bytes:
    """Return a file's content.

    Raises:
        HemError: if it cannot be opened.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise HemError(f"{path} cannot be read: {error.strerror or error}") from None


def count_of(line: str, name: str, number: int) -> int:
    """Return the count that a line states.

    Raises:
        HemError: unless it is a whole number >= 0 (``3`` and ``3.0`` are both accepted).
    """
    try:
        value = float(line)
    except ValueError:
        value = math.nan
    if not (0 <= value < 1e9 and value == int(value)):
        raise HemError(f"{name} line {number}: expected a count of boxes, got {line[:60]!r}")
    return int(value)


def number_rows(
    lines: Sequence[str], first_line: int, name: str, columns: int, what: str
) -> NDArray[np.float64]:
    """Return the first ``columns`` numbers of every line, float64 (N, columns).

    Args:
        first_line: number of the first line within its file, for messages.
        what: what a line should hold, for messages.

    Raises:
        HemError: if a line has fewer numbers, or one that is not finite or beyond 1e9.
    """
    words = [line.replace(",", " ").split()[:columns] for line in lines]
    try:
        rows = np.array(words, dtype=np.float64).reshape(len(lines), columns)
    except ValueError:  # some line is wrong: the loop below finds it
        rows = np.full((len(lines), columns), np.nan)
    if (np.abs(rows) <= _BIGGEST).all():
        return rows
    for index, line in enumerate(lines):
        try:
            values = [float(word) for word in line.replace(",", " ").split()[:columns]]
        except ValueError:
            values = []
        if len(values) < columns or not all(abs(value) <= _BIGGEST for value in values):
            raise HemError(f"{name} line {first_line + index}: expected {what}, got {line[:60]!r}")
        rows[index] = values
    return rows


def named_blocks(lines: Sequence[str], name: str) -> Iterator[tuple[str, int, Sequence[str]]]:
    """Yield (image name, number of its first box line, box lines) from ``name / count / boxes`` text.

    Raises:
        HemError: if a count is missing, wrong, or larger than what follows.
    """
    at = 0
    while at < len(lines):
        if not lines[at]:
            at += 1
            continue
        if at + 1 >= len(lines):
            raise HemError(f"{name} line {at + 1}: {lines[at][:60]!r} has no count after it (cut short?)")
        count = count_of(lines[at + 1], name, at + 2)
        rows = lines[at + 2 : at + 2 + count]
        if len(rows) < count:
            raise HemError(f"{name} line {at + 2}: {count} boxes announced, {len(rows)} lines follow")
        yield lines[at], at + 3, rows
        at += 2 + count


def read_any_json(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """Return a JSON file's content.

    Raises:
        HemError: if it cannot be opened or is not JSON.
    """
    try:
        return json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise HemError(f"{path} is not readable JSON: {str(error)[:200]}") from None


def records(value: object, path: Path, what: str) -> list[Mapping[str, Any]]:
    """Return ``value`` as a list of JSON objects.

    Raises:
        HemError: if it is anything else.
    """
    if not isinstance(value, list):
        raise HemError(f"{path}: {what} must be a list, got {type(value).__name__}")
    for index, record in enumerate(value):
        if not isinstance(record, dict):
            raise HemError(f"{path}: {what}[{index}] must be an object, got {type(record).__name__}")
    return value


def number_of(record: Mapping[str, Any], key: str, where: str, default: float | None = None) -> float:
    """Return a finite number of a JSON object.

    Raises:
        HemError: if it is absent (and has no default), no number, not finite or beyond 1e9.
    """
    value = record.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _BIGGEST:
        raise HemError(f"{where}: {key} must be a finite number, got {value!r:.60}")
    return float(value)


def whole_number_of(record: Mapping[str, Any], key: str, where: str, default: int | None = None) -> int:
    """Return a whole number of a JSON object; the same errors as number_of."""
    value = record.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or not abs(value) < 2**62:
        raise HemError(f"{where}: {key} must be a whole number, got {value!r:.60}")
    return value


def box_of(record: Mapping[str, Any], where: str) -> tuple[float, float, float, float]:
    """Return ``bbox`` of a JSON object as left, top, width, height with width and height >= 0.

    Raises:
        HemError: if it is not four finite numbers, or a side is negative.
    """
    box = record.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        raise HemError(f"{where}: bbox must be [left, top, width, height], got {box!r:.60}")
    values = [number_of({"bbox": value}, "bbox", where) for value in box]
    if values[2] < 0 or values[3] < 0:
        raise HemError(f"{where}: bbox {values} has a negative side")
    return values[0], values[1], values[2], values[3]
