"""Paths of a run: those its records hold, found from any directory and after a move, and where it writes."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hem.artifacts.files import read_json
from hem.errors import HemError

RUN_DIR = "run_dir"
"""Key of a record: the absolute directory it was written in, by which a moved run finds a moved store."""


def place_of(run: Path, document: Mapping[str, Any], kept: str) -> Path:
    """Return where a path lies that a record (``document``) of ``run`` names.

    Records name absolute paths. Of a run that was moved together with what it names, as when both lie below
    one folder, the copy beside it is meant. Records of earlier versions count from the working directory of
    their time.
    """
    path = Path(kept)
    if path.is_absolute() and RUN_DIR in document:
        beside = Path(os.path.normpath(run.resolve() / os.path.relpath(path, document[RUN_DIR])))
        if beside.exists():
            return beside
    return path


def read_stages(run: Path) -> dict[str, Any]:
    """Return ``stages.json`` of a run, its paths as Path: checkpoints, predictions, evidence, calibration.

    Raises:
        HemError: if it is absent or damaged.
    """
    document = read_json(run / "stages.json", "stages")

    def found(value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, Mapping):
            return {str(name): found(one) for name, one in value.items()}
        return None if value is None else place_of(run, document, value)

    names = ("checkpoints", "predictions", "evidence", "calibration")
    return {**document, **{name: found(document[name]) for name in names if name in document}}


def require_writable(folder: Path, key: str) -> None:
    """Raise HemError before long work whose results could not be written into a folder; none is made.

    Args:
        folder: where results are to be written; it need not be there yet.
        key: the setting that names it.

    Raises:
        HemError: if it is a file or lies below one, or nothing can be written there.
    """
    way_out = f"give another {key}"
    try:
        there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
        if not there.is_dir():
            raise HemError(f"{key}={folder}: {there} is a file, not a folder: {way_out}")
        with tempfile.TemporaryDirectory(prefix=".hem-", dir=there):
            pass
    except OSError as error:
        raise HemError(
            f"{key}={folder}: nothing can be written there ({error.strerror}): {way_out}"
        ) from None
