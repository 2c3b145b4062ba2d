"""A detector's answers, written down while a pass runs, so that one broken off goes on from where it was."""

import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from hem.artifacts import digest_of, read_table, remove_parts, write_table
from hem.errors import HemError
from hem.mining.collect import Detect
from hem.structures import Detections, VideoInfo

if TYPE_CHECKING:
    from hem.detectors.protocol import Detector

EVERY_S = 10.0  # a file of some hundred answers takes about 0.05 s
_KIND = "answers"
_SAMPLE = 16  # every 16th row and column tell one picture of a pass from another


class _Answer(NamedTuple):
    picture: int
    found: Detections


class RememberedAnswers:
    """Asks a detector, unless the same pass, run before and broken off, has asked the same already.

    A pass over a video asks about the same pictures in the same order whenever it is run, so answers are
    kept in that order, each with a checksum of its picture. Where another picture comes (the batch size
    was changed, or the decoder), what was written from there on is given up and asked anew. As a context
    manager it writes what it knows however the block ends. A kill (SIGKILL, or a signal that raises nothing:
    see hem.signals for SIGTERM) loses what came after the last file, and that is asked again.

    Args:
        folder: of one pass; made when there is something to write.
        about: what the answers depend on; answers about anything else are removed.
        detect: uint8 (B, 3, H, W) to one Detections a picture, none of them with a frame of its own; begun
            ahead if it has a method ``begin``, see hem.ops.ahead.asked_ahead.
        every_s: seconds between files. Lower: a kill loses less, more files.
    """

    def __init__(self, folder: Path, about: Mapping[str, object], detect: Detect, every_s: float) -> None:
        self._folder, self._about, self._detect, self._every_s = folder, digest_of(about), detect, every_s
        self._file = 0  # that is given again; later the one that is written next
        self._at = 0
        self._new: list[_Answer] = []
        self._since = time.monotonic()
        remove_parts(folder)
        self._told = self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write()

    def __call__(self, pictures: Tensor) -> list[Detections]:
        """Return one Detections for each of uint8 (B, 3, H, W)."""
        return self.begin(pictures)()

    def begin(self, pictures: Tensor) -> Callable[[], list[Detections]]:
        """Return what gives one Detections for each of uint8 (B, 3, H, W); to be called in the order begun.

        The detector begins at once if it can, unless the answer may be known.
        """
        begin = getattr(self._detect, "begin", None)
        begun = None if self._told or begin is None else begin(pictures)
        return partial(self._finish, pictures, _checksums(pictures), begun)

    def _finish(
        self, pictures: Tensor, keys: list[int], begun: Callable[[], list[Detections]] | None
    ) -> list[Detections]:
        known = [found for key in keys if (found := self._again(key)) is not None]
        if len(known) == len(keys):
            return known
        answers = begun() if begun else self._detect(pictures)
        self._new += map(_Answer, keys[len(known) :], answers[len(known) :])
        if time.monotonic() - self._since >= self._every_s:
            self._write()
        return answers

    def forget(self) -> None:
        """Remove all that was written; for when the result of the pass is kept."""
        self._new = []
        shutil.rmtree(self._folder, ignore_errors=True)

    def _again(self, key: int) -> Detections | None:
        """Return the next answer of the run before if it is about this picture."""
        while self._at == len(self._told):
            if not self._told:
                return None
            self._file, self._at = self._file + 1, 0
            self._told = self._read()
        if self._told[self._at].picture == key:
            self._at += 1
            return self._told[self._at - 1].found
        self._new = self._told[: self._at]
        self._end_at(self._file)
        return None

    def _end_at(self, number: int) -> None:
        """Give up files from ``number`` on."""
        for path in self._folder.glob("*.parquet"):
            if path.name >= f"{number:06d}":
                path.unlink()
        self._told, self._at = [], 0

    def _path(self) -> Path:
        return self._folder / f"{self._file:06d}.parquet"

    def _read(self) -> list[_Answer]:
        """Return the answers of the file at hand, none if there is none that can be used."""
        if not self._path().is_file():
            return []
        try:
            columns, header = read_table(self._path(), _KIND)
            if header["about"] != self._about:
                raise HemError(f"{self._path()} is about another pass")
            # copies, since torch warns of arrays that cannot be written to, as Arrow's are
            columns = {name: np.array(column) for name, column in columns.items()}
            ends = np.cumsum([0, *header["counts"]]).tolist()
            boxes, scores, labels = (torch.from_numpy(columns[k]) for k in ("boxes_xyxy", "scores", "labels"))
            return [
                _Answer(key, Detections(boxes[a:b], scores[a:b], labels[a:b]))
                for key, a, b in zip(header["pictures"], ends, ends[1:], strict=False)
            ]
        except (HemError, KeyError, TypeError, ValueError):  # nothing rests on it: it is asked again
            self._end_at(self._file)
            return []

    def _write(self) -> None:
        self._since = time.monotonic()
        if not self._new:
            return
        found = [answer.found for answer in self._new]
        write_table(
            self._path(),
            _KIND,
            {
                "boxes_xyxy": _shortest(torch.cat([one.boxes_xyxy for one in found])),
                "scores": _shortest(torch.cat([one.scores for one in found])),
                "labels": torch.cat([one.labels for one in found]).numpy(),
            },
            header={
                "about": self._about,
                "pictures": [answer.picture for answer in self._new],
                "counts": [len(one) for one in found],
            },
        )
        self._file, self._new = self._file + 1, []


def notes_beside(result: Path) -> Path:
    """Return the hidden folder where answers lie while the pass that makes ``result`` runs."""
    return result.with_name(f".{result.name}.answers")


@contextmanager
def remembered(
    detector: "Detector",
    digest: str,
    video: VideoInfo,
    floor_score: float,
    result: Path,
    settings: Mapping[str, object] | None = None,
) -> Iterator[RememberedAnswers]:
    """Give what asks a detector about one video, its answers kept beside ``result`` until forgotten.

    Args:
        detector, digest: who is asked, and its digest, which takes a look at every weight. What has no
            ``asking`` is asked by its ``detect``.
        video, floor_score: what about, and from which score.
        result: what the answers are needed for.
        settings: what else decides which pictures are asked about, and in which order. The checksums alone
            do not: in a video where little moves two pictures may have the same sample.
    """
    about = {"detector": digest, "video": video.digest, "floor_score": floor_score, "settings": settings}
    asking = getattr(detector, "asking", None)
    asked = asking(floor_score) if asking else nullcontext(partial(detector.detect, floor_score=floor_score))
    with asked as detect, RememberedAnswers(notes_beside(result), about, detect, EVERY_S) as answers:
        yield answers


def _checksums(pictures: Tensor) -> list[int]:
    sample = np.ascontiguousarray(pictures[..., ::_SAMPLE, ::_SAMPLE].cpu().numpy())
    return [zlib.crc32(one.tobytes(), pictures.shape[-1]) for one in sample]


def _shortest(values: Tensor) -> np.ndarray:
    """Return float32 where that is exact, as it is for what networks compute, or else float64."""
    short = values.float()
    return (short if torch.equal(short.double(), values) else values).numpy()
