"""Paths that records of a run hold, so that they are found from any directory, and after a move."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hem.artifacts.files import read_json

RUN_DIR = "run_dir"
"""Key of a record: the absolute directory it was written in, for runs moved without their store."""


def kept_path(path: Path, run: Path, store: Path) -> str:
    """Return how a record in ``run`` names ``path``.

    Relative to ``run`` where both lie below the directory that holds ``store``, so that they can be moved
    together; else absolute.
    """
    target, base, home = path.resolve(), run.resolve(), store.resolve().parent
    together = home != home.parent and target.is_relative_to(home) and base.is_relative_to(home)
    return Path(os.path.relpath(target, base)).as_posix() if together else str(target)


def place_of(run: Path, document: Mapping[str, Any], kept: str) -> Path:
    """Return where a path lies that a record (``document``) of ``run`` names.

    Relative to ``run`` as it lies now; if nothing is there, to where it lay when the record was written;
    then as it is, for records of earlier versions, which count from the working directory of that time.
    """
    now = Path(os.path.normpath(run.resolve() / kept))
    then = Path(os.path.normpath(Path(document.get(RUN_DIR, run)) / kept))
    return next((one for one in (now, then, Path(kept)) if one.exists()), now)


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
