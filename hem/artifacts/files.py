"""Files that are whole or not there, with a schema name and the digests of what made them."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from hem import __version__
from hem.errors import HemError

_HEADER = b"hem"
_PIECE = 16 * 2**20  # bytes between two reports on a file that is read: some hundredths of a second
_digests: dict[str, tuple[int, int, str]] = {}  # by path: length, time of change in ns, sha256
PROGRAM = f"hem {__version__}"  # said of every file; no time and no machine, so that bytes can be compared


def sha256_file(path: Path) -> str:
    """Return the sha256 of a file's content, 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_known(path: Path, report: Callable[[int], object] | None = None) -> str:
    """Return what sha256_file returns; a file is read once in this process while size and time stay.

    Args:
        path: a file.
        report: told how many more bytes are dealt with; all at once for a file that was read before.

    Raises:
        OSError: if the file cannot be read.
    """
    status = path.stat()
    known = (status.st_size, status.st_mtime_ns)
    name = str(path.absolute())
    if name not in _digests or _digests[name][:2] != known:
        _digests[name] = (*known, sha256_file(path) if report is None else _sha256_told(path, report))
    elif report is not None:
        report(status.st_size)
    return _digests[name][2]


def _sha256_told(path: Path, report: Callable[[int], object]) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE):
            digest.update(piece)
            report(len(piece))
    return digest.hexdigest()


def digest_of(value: object) -> str:
    """Return the sha256 of a JSON-like value in canonical form (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return value.as_posix()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _temporary(path: Path) -> Path:
    return path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.part"


@contextmanager
def made_folder(path: Path) -> Iterator[None]:
    """Make a folder and those above it; after an exception, those of them that it made go again if empty."""
    made = [one for one in (path, *path.parents) if not one.exists()]
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for folder in made:  # from the innermost
            with suppress(OSError):  # something was kept there
                folder.rmdir()
        raise


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; on success it is renamed to ``path``.

    After an exception or a kill ``path`` is as it was before: absent, or the older whole file. Its folder
    is made, and after an exception not left behind empty.
    """
    with made_folder(path.parent):
        temporary = _temporary(path)
        try:
            yield temporary
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            temporary.replace(path)
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary directory beside ``path``; on success it is renamed to ``path``.

    Raises:
        HemError: if ``path`` exists already (a finished artifact is never overwritten).
    """
    if path.exists():
        raise HemError(f"{path} exists already; remove it or choose another directory")
    with made_folder(path.parent):
        temporary = _temporary(path)
        temporary.mkdir()
        try:
            yield temporary
            temporary.replace(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def alone(path: Path, waits: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock file ``path``: of several processes only one is inside at a time.

    A process that ends in any way lets go. On a network drive this is as good as the drive's locks.

    Args:
        path: an empty file that stays behind; its folder is made.
        waits: called once if another process is inside.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        waits()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def remove_parts(directory: Path) -> None:
    """Delete what a killed run left half-written directly under ``directory``."""
    for part in directory.glob(".*.part"):
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


def write_json(
    path: Path,
    kind: str,
    payload: Mapping[str, Any],
    *,
    version: int = 1,
    made_by: Mapping[str, str] | None = None,
) -> None:
    """Write ``payload`` as JSON with ``schema`` = ``hem/<kind>/<version>`` and ``made_by``.

    ``made_by`` names the program and its version, beside the digests that are given.

    A value that is an iterator of mappings becomes a list, written row by row, so that a long table
    never lies in memory as text. NaN and infinity are refused (JSON has neither): what was not
    measured is None.
    """
    document = {"schema": f"hem/{kind}/{version}", "made_by": _maker(made_by), **payload}
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        try:
            file.writelines(_text(document))
        except ValueError as error:
            raise HemError(f"{path}: a number that is not finite cannot be written; use null") from error


def _maker(digests: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"program": PROGRAM, **(digests or {})}


def _text(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the document for people and line tools: tables one row a line, the rest indented."""
    encoder = json.JSONEncoder(allow_nan=False, default=_plain)  # one for all rows
    opening = "{\n"
    for key, value in document.items():
        yield f"{opening} {json.dumps(str(key))}: "
        opening = ",\n"
        if isinstance(value, Iterator) or (isinstance(value, list) and _is_table(value)):
            between = "[\n  "
            for row in value:
                yield between + encoder.encode(row)
                between = ",\n  "
            yield "[]" if between.startswith("[") else "\n ]"
        else:
            yield json.dumps(value, indent=1, allow_nan=False, default=_plain).replace("\n", "\n ")
    yield "\n}\n"


def _is_table(value: list[Any]) -> bool:
    return len(value) > 0 and all(isinstance(row, dict) for row in value)


def read_json(path: Path, kind: str, *, version: int = 1) -> dict[str, Any]:
    """Read what write_json wrote.

    Raises:
        HemError: if the file is absent, is not JSON, or has another schema or version.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise HemError(f"{path} is not there") from None
    except (ValueError, RecursionError) as error:
        raise HemError(f"{path} is not readable JSON: {error}") from None
    _check_schema(path, document.get("schema") if isinstance(document, dict) else None, kind, version)
    return dict(document)


def _check_schema(path: Path, found: object, kind: str, version: int) -> None:
    expected = f"hem/{kind}/{version}"
    if found != expected:
        raise HemError(
            f"{path} has schema {found!r}, expected {expected!r}: made by another version or program"
        )


def write_table(
    path: Path,
    kind: str,
    columns: Mapping[str, np.ndarray | Sequence[Any]],
    *,
    header: Mapping[str, Any] | None = None,
    version: int = 1,
) -> None:
    """Write equally long columns as Parquet; ``header`` (JSON-like) goes into the file's metadata.

    ``made_by`` there names the program and its version beside what is given. A 2-D array becomes a
    column of fixed-size lists.
    """
    with whole_file(path) as temporary, _system_memory():
        table = _table_of(columns).replace_schema_metadata(_metadata(kind, version, header))
        pq.write_table(table, temporary, compression="zstd")


def write_slices(
    path: Path,
    kind: str,
    slices: Iterable[Mapping[str, np.ndarray | Sequence[Any]]],
    schema: pa.Schema,
    *,
    header: Mapping[str, Any] | None = None,
    version: int = 1,
) -> None:
    """Write what write_table writes, given in slices of rows, of which one lies in memory at a time.

    Args:
        path: becomes the file once every slice is in it.
        kind, header, version: as in write_table.
        slices: columns by name; none at all gives a table without rows.
        schema: names and types of the columns, which cannot be told from a slice that may be empty.
    """
    whole = schema.with_metadata(_metadata(kind, version, header))
    with (
        whole_file(path) as temporary,
        _system_memory(),
        pq.ParquetWriter(temporary, whole, compression="zstd") as writer,
    ):
        for columns in slices:
            writer.write_table(_table_of(columns, whole))


@contextmanager
def _system_memory() -> Iterator[None]:
    """Let Arrow use the system's allocator meanwhile: its own keeps what was freed, once for each thread."""
    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)


def _metadata(kind: str, version: int, header: Mapping[str, Any] | None) -> dict[bytes, bytes]:
    said = dict(header or {})
    said["made_by"] = _maker(said.get("made_by"))
    document = {"schema": f"hem/{kind}/{version}", "header": said}
    return {_HEADER: json.dumps(document, default=_plain).encode()}


def _table_of(columns: Mapping[str, np.ndarray | Sequence[Any]], schema: pa.Schema | None = None) -> pa.Table:
    """Return a table; of the types of ``schema``, without Arrow's casts, which take a while to import."""
    arrays = {}
    for name, column in columns.items():
        wanted = None if schema is None else schema.field(name).type
        if isinstance(column, np.ndarray) and column.ndim == 2:
            of_each = None if wanted is None else wanted.value_type
            flat = pa.array(np.ascontiguousarray(column).reshape(-1), of_each)
            arrays[name] = pa.FixedSizeListArray.from_arrays(flat, column.shape[1])
        else:
            arrays[name] = pa.array(column, wanted)
    return pa.table(arrays, schema=schema)


def _column_of(table: pa.Table) -> np.ndarray:
    column = table.column(0).combine_chunks()
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):  # as other programs write them
        lengths = set(np.diff(column.offsets.to_numpy()).tolist())
        if len(lengths) > 1 or column.null_count:
            raise HemError(f"column {table.column_names[0]} has lists of {sorted(lengths)} numbers, or nulls")
        width = lengths.pop() if lengths else 0
        return np.asarray(column.flatten().to_numpy(zero_copy_only=False)).reshape(len(column), width)
    if not pa.types.is_fixed_size_list(column.type):
        return np.asarray(column.to_numpy(zero_copy_only=False))
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False)).reshape(-1, column.type.list_size)


def read_table(path: Path, kind: str, *, version: int = 1) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what write_table wrote: columns as numpy arrays (lists as 2-D), and the header.

    Raises:
        HemError: if the file is absent, damaged, or has another schema or version.
    """
    if not path.is_file():
        raise HemError(f"{path} is not there")
    columns: dict[str, np.ndarray] = {}
    try:
        with _system_memory(), pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            document = json.loads((schema.metadata or {}).get(_HEADER, b"{}"))
            if not isinstance(document, dict) or not isinstance(document.get("header", {}), dict):
                raise HemError("the metadata under 'hem' is no JSON object with an object 'header'")
            _check_schema(path, document.get("schema"), kind, version)
            for name in schema.names:  # one by one: what decoding takes is free again for the next
                columns[name] = _column_of(file.read(columns=[name], use_threads=False))
    except HemError as error:
        raise HemError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    except (pa.ArrowException, ValueError, OSError) as error:
        raise HemError(f"{path} is not a readable Parquet file: {str(error).splitlines()[0]}") from None
    return columns, dict(document.get("header", {}))
