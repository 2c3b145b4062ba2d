"""Evidence of one video as one directory of Parquet files, whole or not there."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from hem.artifacts.detections import from_columns, named_as, save_detections
from hem.artifacts.files import digest_of, read_table, whole_directory, write_table
from hem.errors import HemError
from hem.structures import VideoInfo
from hem.structures.evidence import CollectSettings, Evidence, NeighbourTable, ResponseTable

_NAMES = ("detections", "frames", "neighbours", "responses")


def save_evidence(directory: Path, evidence: Evidence) -> None:
    """Write one video's evidence to ``directory`` (which must not exist yet).

    Files: ``detections.parquet``, ``frames.parquet`` (flags, and the collect settings in its header),
    ``neighbours.parquet``, ``responses.parquet``, and ``stillness.parquet`` where
    ``collected.still_s`` asked for it. Each carries the digests of the video, the detector
    and the collect settings.

    Raises:
        HemError: if ``directory`` exists already.
    """
    settings = evidence.collected.plain()
    made_by = {
        "video": evidence.detections.video.digest,
        "detector": evidence.detector_digest,
        "collect": digest_of(settings),
    }
    flags = {"cut_before": evidence.cut_before, "duplicate": evidence.duplicate}
    header = {
        "made_by": made_by,
        "collected": settings,
        "detector_calls": evidence.detector_calls,
        "elicit_calls": evidence.elicit_calls,
        "pixels": evidence.pixels,
    }
    tables = {
        "neighbours": _columns(evidence.neighbours),
        "responses": _columns(evidence.responses),
    }
    if evidence.change is not None:
        tables["stillness"] = {"change": evidence.change}
    with whole_directory(directory) as temporary:
        save_detections(temporary / "detections.parquet", evidence.detections, made_by)
        write_table(temporary / "frames.parquet", "evidence_frames", flags, header=header)
        for name, columns in tables.items():
            path = temporary / f"{name}.parquet"
            write_table(path, f"evidence_{name}", columns, header={"made_by": made_by})


def _columns(table: NeighbourTable | ResponseTable) -> dict[str, NDArray]:
    return {name: getattr(table, name) for name in table.__dataclass_fields__}


def load_evidence(directory: Path) -> Evidence:
    """Read what save_evidence wrote.

    Raises:
        HemError: if a file is absent, damaged, of another schema, or from another pass.
    """
    missing = [name for name in _NAMES if not (directory / f"{name}.parquet").is_file()]
    if missing:
        raise HemError(f"{directory} is not evidence of one video: it lacks {missing[0]}.parquet")
    flags, header = read_table(directory / "frames.parquet", "evidence_frames")
    detections = from_columns(
        *_of_pass(directory, "detections", "detections", header), directory / "detections.parquet"
    )
    near, _ = _of_pass(directory, "neighbours", "evidence_neighbours", header)
    answers, _ = _of_pass(directory, "responses", "evidence_responses", header)
    if digest_of(header["collected"]) != header["made_by"]["collect"]:
        raise HemError(f"{directory / 'frames.parquet'}: the collect settings were changed afterwards")
    collected = CollectSettings.from_plain(header["collected"])
    change = None
    if collected.still_s > 0:
        change = _of_pass(directory, "stillness", "evidence_stillness", header)[0]["change"]
    return Evidence(
        detections=detections,
        cut_before=flags["cut_before"].astype(np.bool_),
        duplicate=flags["duplicate"].astype(np.bool_),
        collected=collected,
        neighbours=NeighbourTable(**near),
        responses=ResponseTable(**answers),
        detector_digest=header["made_by"]["detector"],
        detector_calls=int(header["detector_calls"]),
        elicit_calls=int(header["elicit_calls"]),
        change=change,
        pixels=header.get("pixels", "cpu"),  # older evidence does not say
    )


def _of_pass(
    directory: Path, name: str, kind: str, of_frames: Mapping[str, Any]
) -> tuple[dict[str, NDArray], dict[str, Any]]:
    """Return a table's columns and header, if it comes from the pass that the header of the frames names."""
    columns, header = read_table(directory / f"{name}.parquet", kind)
    if header.get("made_by") != of_frames["made_by"]:
        raise HemError(f"{directory / name}.parquet comes from another pass than frames.parquet")
    return columns, header


def evidence_in(folder: Path, video: VideoInfo) -> Evidence:
    """Load one video's evidence, under the id and path that the video has now."""
    found = load_evidence(folder)
    named = named_as(found.detections, video)
    return found if named is found.detections else replace(found, detections=named)


class StoredEvidence(Sequence[Evidence]):
    """Evidence of many videos, of which the one asked for last lies in memory.

    Going through it reads video after video; what was made of a video's evidence (its look-ups) goes
    with it. A slice is a list of all it names.

    Args:
        items: directories that save_evidence wrote (with the video as it is called now), or evidence that
            lies nowhere but in memory.
        last: what the last of them holds, where that is in memory still.
    """

    def __init__(
        self, items: Iterable[Path | tuple[Path, VideoInfo] | Evidence], last: Evidence | None = None
    ) -> None:
        self._items = tuple(items)
        self._last = None if last is None else (len(self._items) - 1, last)

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> Evidence: ...
    @overload
    def __getitem__(self, index: slice) -> list[Evidence]: ...
    def __getitem__(self, index: int | slice) -> Evidence | list[Evidence]:
        """Return one video's evidence, or a list.

        Raises:
            HemError: if it cannot be read any more.
        """
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        item = self._items[at]
        if isinstance(item, Evidence):
            return item
        if self._last is None or self._last[0] != at:
            self._last = None  # before the next one is read: never two at once
            self._last = (at, evidence_in(*item) if isinstance(item, tuple) else load_evidence(item))
        return self._last[1]

    def __iter__(self) -> Iterator[Evidence]:
        for at in range(len(self)):
            yield self[at]  # bound to no name here, so that it can go before the next one is read

    @property
    def folders(self) -> list[Path]:
        """Where it lies, of what lies anywhere."""
        places = [item[0] if isinstance(item, tuple) else item for item in self._items]
        return [place for place in places if isinstance(place, Path)]

    def let_go(self) -> None:
        """Forget the one asked for last; it is read again when it is wanted."""
        self._last = None
