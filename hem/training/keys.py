"""What goes into the keys of stages: settings, with files by what they hold instead of by where they lie."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hem.artifacts import digest_of, sha256_known
from hem.detectors.weights import looks_like_path
from hem.errors import HemError


def with_contents(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a detector's settings, each that names a file or folder replaced by a digest of what it holds.

    So weights that were replaced are other settings, and weights that were moved are not. A published
    name, and a path where nothing lies, stay as they are, and so do folders that are no ``…weights``.

    Args:
        settings: JSON-like; nested ones are looked through too.

    Raises:
        HemError: if a file that is there cannot be read.
    """
    return {name: _with_contents(value, name, f"detector.{name}") for name, value in settings.items()}


def _with_contents(value: Any, name: str, key: str) -> Any:  # noqa: ANN401
    if isinstance(value, Mapping):
        return {one: _with_contents(inner, one, f"{key}.{one}") for one, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_with_contents(inner, name, key) for inner in value]
    weights = name.endswith("weights")
    if not isinstance(value, str) or not value or not (weights or looks_like_path(value)):
        return value
    path = Path(value)
    try:
        if path.is_file():
            return f"sha256:{sha256_known(path)}"
        if weights and path.is_dir():
            files = sorted(one for one in path.rglob("*") if one.is_file())
            held = [[one.relative_to(path).as_posix(), sha256_known(one)] for one in files]
            return f"sha256:{digest_of(held)}"
    except OSError as error:
        raise HemError(f"{key}={value} cannot be read: {error.strerror or error}") from None
    return value
