"""Caltech Pedestrians: .vbb annotations, and frames converted once from .seq video.

Source: vbb.m and seqIo.m of the dataset's own toolbox (github.com/pdollar/toolbox) for the fields, its
bbGt.m for who is trained on, and dbEval.m of the dataset's evaluation code for who is measured.
"""

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal, Unpack

import numpy as np

from hem.data.base import DetectionDataset, ReadOptions
from hem.data.bundle import DataBundle
from hem.data.pedestrian import Pedestrian, Reasonable, cells, four, load_mat, visible_share
from hem.data.reading import inside, need, whole_number
from hem.data.records import RawBox, RawImage
from hem.errors import HemError

TRAIN_SETS = tuple(f"set{number:02d}" for number in range(6))
TEST_SETS = tuple(f"set{number:02d}" for number in range(6, 11))
_FRAME = re.compile(r"I(\d{5,7})\.(?:jpg|jpeg|png)", re.IGNORECASE)
_UNSURE = {"people", "person?", "person-fa"}
# The benchmark's program counts nobody who reaches out of these (1-based left, top, right, bottom), ignores
# "people", and knows no other label than these two.
_BOUNDS = (5, 5, 635, 475)
_OCCLUDED = math.nextafter(1.0, 0.0)
_FAR = 1e6  # pixels; beyond it a box is damage, counted by the judgement of boxes


class Caltech(DetectionDataset):
    """Frames of Caltech Pedestrians, class ``person``; a video (``set00/V000``) is a group.

    ``people`` and ``person?`` become ignore regions, and so do persons that are small or hidden (see
    Reasonable). ``record(i).extra["pedestrians"]`` keeps all of them as the benchmark's own measure
    counts them (Pedestrian). Frames are images named ``images/set00/V000/I00029.jpg`` with the 0-based frame
    number; ``python -m hem.data.caltech_seq DIR`` writes them from the official .seq files.

    Args:
        root: folder with ``annotations/set00/V000.vbb`` … and ``images/set00/V000/`` ….
        sets: which sets; 00-05 are for training, 06-10 for testing.
        every: take frames whose 1-based number divides by it; 30 is the benchmark's.
        min_height, min_visible: see Reasonable.
        options: see DetectionDataset.
    """

    how_to: ClassVar[str] = (
        "Download annotations.zip and the set00 … set10 videos of Caltech Pedestrians "
        "(data.caltech.edu/records/f6rph-90m20), unpack them as annotations/set00/V000.vbb and "
        "set00/V000.seq into one folder, write their frames once with `python -m hem.data.caltech_seq "
        "FOLDER` (extract_frames), and set data.root to the folder"
    )
    overhang_px: ClassVar[float] = float("inf")  # a person cut by the border is boxed whole
    outside: ClassVar[Literal["error", "skip"]] = "skip"

    def __init__(
        self,
        root: Path | str,
        sets: Sequence[str] = TRAIN_SETS,
        every: int = 30,
        min_height: float = 50.0,
        min_visible: float = 0.65,
        **options: Unpack[ReadOptions],
    ) -> None:
        known = TRAIN_SETS + TEST_SETS
        if isinstance(sets, str) or not sets or any(name not in known for name in sets) or every < 1:
            raise HemError(
                f"Caltech has the sets {', '.join(known)}, every must be >= 1; got {sets}, {every}"
            )
        root = need(Path(root), self.how_to, directory=True)
        self._every, self._reasonable = every, Reasonable(min_height, min_visible)
        super().__init__(root, self._images(sets), ("person",), **options)

    def _images(self, sets: Sequence[str]) -> Iterator[RawImage]:
        for name in sets:
            folder = need(inside(self.root, f"annotations/{name}"), self.how_to, directory=True)
            for found in sorted(folder.glob("V*.vbb")):
                video = f"{name}/{found.stem}"
                path = inside(self.root, f"annotations/{video}.vbb")
                frames = _frames(inside(self.root, f"images/{video}"))
                wanted = {at: file for at, file in frames.items() if (at + 1) % self._every == 0}
                if not wanted:
                    self.skips.add("video without converted frames", video)
                    continue
                found_boxes = read_vbb(path, self._reasonable)
                for at, file in sorted(wanted.items()):
                    rows = found_boxes.get(at, [])
                    people = [pedestrian for _, pedestrian in rows if pedestrian is not None]
                    yield RawImage(
                        f"images/{video}/{file}",
                        [box for box, _ in rows],
                        str(path),
                        group=video,
                        extra={"frame": at, "pedestrians": people},
                    )


def caltech(
    root: Path | str,
    every: int = 30,
    min_height: float = 50.0,
    min_visible: float = 0.65,
    **options: Unpack[ReadOptions],
) -> DataBundle:
    """Return Caltech's sets 00-05 and 06-10; arguments as for Caltech. The test takes every 30th frame."""
    return DataBundle(
        Caltech(root, TRAIN_SETS, every, min_height, min_visible, **options),
        Caltech(root, TEST_SETS, 30, min_height, min_visible, **options),
    )


def _frames(folder: Path) -> dict[int, str]:
    if not folder.is_dir():
        return {}
    matches = ((_FRAME.fullmatch(path.name), path.name) for path in folder.iterdir())
    return {int(match.group(1)): name for match, name in matches if match}


def read_vbb(path: Path, rules: Reasonable) -> dict[int, list[tuple[RawBox, Pedestrian | None]]]:
    """Return the boxes of each 0-based frame of a .vbb file (MATLAB structures, corners 1-based).

    Beside each box for training stands what the benchmark's measure makes of it (None: nothing).

    Raises:
        HemError: if the file is absent, damaged, or not a .vbb.
    """
    struct = load_mat(path, "A")["A"]
    lists, names = getattr(struct, "objLists", None), getattr(struct, "objLbl", None)
    if lists is None or names is None:
        raise HemError(f"{path}: not a .vbb file (A.objLists or A.objLbl is missing)")
    labels = [str(name) for name in cells(names)]
    frames = [lists] if _plain(getattr(struct, "nFrame", None)) == 1 else cells(lists)
    return {
        frame: boxes
        for frame, entry in enumerate(frames)
        if (boxes := list(_boxes(entry, labels, path, frame, rules)))
    }


def _boxes(
    entry: object, labels: list[str], path: Path, frame: int, rules: Reasonable
) -> Iterator[tuple[RawBox, Pedestrian | None]]:
    for item in cells(entry):
        if not hasattr(item, "id") or not hasattr(item, "pos"):
            continue  # an empty frame
        place = f"frame {frame}"
        where = f"{path}, {place}"
        number = getattr(item, "id")  # noqa: B009  a MATLAB struct has no declared attributes
        label = labels[whole_number(_plain(number), f"{where}: id", 1, len(labels)) - 1]
        if label != "person" and label not in _UNSURE:
            continue
        box = four(getattr(item, "pos"), where)  # noqa: B009
        taught, measured = _visible(item, box, where)
        counts = label == "person" and rules.counts(box[3], taught)
        left, top = box[0] - 1, box[1] - 1
        raw = RawBox(left, top, left + box[2], top + box[3], 1, not counts, place)
        ignore = label == "people" or _reaches_out(box)
        known = label in ("person", "people") and all(abs(value) < _FAR for value in box)
        yield raw, Pedestrian(left, top, box[2], box[3], measured, ignore) if known else None


def _reaches_out(box: tuple[float, float, float, float]) -> bool:
    left, top, right, bottom = box[0], box[1], box[0] + box[2], box[1] + box[3]
    low_x, low_y, high_x, high_y = _BOUNDS
    return left < low_x or top < low_y or right > high_x or bottom > high_y


def _visible(item: object, box: tuple[float, float, float, float], where: str) -> tuple[float, float]:
    """Return the visible share of a pedestrian in [0, 1], for training and for the benchmark's measure.

    Without a visible part (absent, or all 0) a pedestrian is wholly visible for both. A part as large as the
    whole is what vbb.m writes for someone who is occluded by nobody knows how much: bbGt.m, which chooses
    what is trained on, takes that for 0. dbEval.m looks at the part alone and takes it for 1, but its
    set-ups for the wholly visible ask that no part be marked, so a marked one stays below 1 here.
    """
    part = getattr(item, "posv", None)
    seen = four(part, where) if part is not None and np.size(part) else None
    if seen is None or not any(seen):
        return 1.0, 1.0
    share = visible_share(box, seen)
    occluded = _plain(getattr(item, "occl", 0)) not in (0, 0.0)
    return (0.0 if seen == box else share) if occluded else 1.0, min(share, _OCCLUDED)


def _plain(value: object) -> object:
    return value.item() if hasattr(value, "item") and getattr(value, "size", 1) == 1 else value
