"""MOTChallenge sequences as labelled frames. Source: the data format section of motchallenge.net."""

import configparser
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal, Unpack

from hem.data.base import DetectionDataset, ReadOptions
from hem.data.bundle import DataBundle
from hem.data.reading import inside, need, number, read_lines, read_text, whole_number
from hem.data.records import RawBox, RawImage
from hem.data.splits import SAME_SCENE
from hem.data.splits import split_in_time as in_time
from hem.errors import HemError

_PEDESTRIAN = 1
_LIKE_PERSON = {2, 7, 8, 12, 13}  # on a vehicle, static, distractor, reflection, crowd
_MAX_INI_BYTES = 1 << 16
_SECOND = 25  # frames; sequences have 7 to 30 a second
_ENDINGS = (".jpg", ".jpeg", ".png")


class MotChallenge(DetectionDataset):
    """Frames of MOTChallenge sequences, class ``person``; a sequence is a group.

    Rows with confidence 0, person-like classes (on a vehicle, static, distractor, reflection,
    crowd) and persons less visible than ``min_visible`` become ignore regions; vehicles and
    occluders are left out. Frame numbers and corners are 1-based in the files.

    Args:
        root: folder of the sequences, each with ``seqinfo.ini``, ``gt/gt.txt`` and ``img1/``.
        sequences: names of folders under ``root``; None for all that have ``gt/gt.txt``.
        every: take every n-th frame, from the first.
        min_visible: share of a person that must be visible, where the file says; raising it spares
            a detector what it cannot see, lowering it trains on persons hidden by others.
        options: see DetectionDataset.
    """

    how_to: ClassVar[str] = (
        "Download a benchmark's zip (MOT15, MOT16, MOT17 or MOT20) from motchallenge.net, unpack it, and "
        "set data.root to its train folder"
    )
    overhang_px: ClassVar[float] = float("inf")  # persons are boxed whole, beyond the border too
    outside: ClassVar[Literal["error", "skip"]] = "skip"

    def __init__(
        self,
        root: Path | str,
        sequences: Sequence[str] | None = None,
        every: int = 1,
        min_visible: float = 0.25,
        **options: Unpack[ReadOptions],
    ) -> None:
        root = need(Path(root), self.how_to, directory=True)
        if every < 1 or not 0 <= min_visible <= 1:
            raise HemError(f"every must be >= 1 and min_visible in [0, 1], got {every} and {min_visible}")
        names = list(sequences) if sequences is not None else _sequences(root)
        if not names:
            raise HemError(f"{root}: no folder with gt/gt.txt. {self.how_to}")
        self._every, self._min_visible = every, min_visible
        super().__init__(root, self._images(names), ("person",), **options)

    def _images(self, names: Sequence[str]) -> Iterator[RawImage]:
        for name in names:
            path = need(inside(self.root, f"{name}/gt/gt.txt"), self.how_to)
            folder, size = _sequence_info(self.root, name)
            rows = _rows(path, self._min_visible)
            pictures = need(inside(self.root, folder), self.how_to, directory=True)
            files = sorted(file for file in pictures.iterdir() if file.suffix.lower() in _ENDINGS)
            numbers = [whole_number(file.stem, f"{file}: frame number", 1) for file in files]
            for frame in sorted(set(rows) - set(numbers)):
                self.skips.add("labelled frame without an image", f"{name} frame {frame}")
            for frame, file in list(zip(numbers, files, strict=True))[:: self._every]:
                yield RawImage(f"{folder}/{file.name}", rows.get(frame, []), str(path), size, group=name)


def mot(
    root: Path | str,
    test_sequences: Sequence[str] = (),
    every: int = 1,
    min_visible: float = 0.25,
    split_in_time: float | None = None,
    **options: Unpack[ReadOptions],
) -> DataBundle:
    """Return MOTChallenge split by sequence: ``test_sequences`` are held out, all others train.

    Args:
        root, every, min_visible, options: see MotChallenge.
        test_sequences: names of the sequences held out.
        split_in_time: instead of them, the share of every sequence's end that is held out; a second's
            worth of frames before it is dropped. Tables then say ``same scene``.

    Raises:
        HemError: if a sequence is not there, none is left to train on, or both splits are asked for.
    """
    if split_in_time is not None:
        if test_sequences:
            raise HemError("give data.test_sequences or data.split_in_time, not both")
        whole = MotChallenge(root, None, every, min_visible, **options)
        train, test = in_time(whole, split_in_time, gap=-(-_SECOND // every))
        return DataBundle(train, test, note=SAME_SCENE)
    known = _sequences(need(Path(root), MotChallenge.how_to, directory=True))
    unknown = [name for name in test_sequences if name not in known]
    rest = [name for name in known if name not in test_sequences]
    if unknown or not test_sequences or not rest:
        raise HemError(
            f"{root}: test_sequences {list(test_sequences)} must be some, not all, of: {', '.join(known)}"
        )
    return DataBundle(
        MotChallenge(root, rest, every, min_visible, **options),
        MotChallenge(root, list(test_sequences), every, min_visible, **options),
    )


def _sequences(root: Path) -> list[str]:
    return sorted(path.parent.parent.name for path in root.glob("*/gt/gt.txt"))


def _sequence_info(root: Path, name: str) -> tuple[str, tuple[int, int] | None]:
    """Return the folder of frames and their size, from seqinfo.ini where there is one."""
    path = inside(root, f"{name}/seqinfo.ini")
    if not path.is_file():
        return f"{name}/img1", None
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(read_text(path, _MAX_INI_BYTES))
        section = parser["Sequence"]
    except (configparser.Error, KeyError) as error:
        raise HemError(f"{path} is not a readable seqinfo.ini: {str(error).splitlines()[0]}") from None
    size = None
    if "imWidth" in section and "imHeight" in section:
        size = (
            whole_number(section["imWidth"], f"{path}: imWidth", 1, 1_000_000),
            whole_number(section["imHeight"], f"{path}: imHeight", 1, 1_000_000),
        )
    return f"{name}/{section.get('imDir', 'img1').strip('/') or 'img1'}", size


def _rows(path: Path, min_visible: float) -> dict[int, list[RawBox]]:
    rows: dict[int, list[RawBox]] = {}
    for line_number, line in enumerate(read_lines(path), 1):
        if not line:
            continue
        where = f"{path}, line {line_number}"
        tokens = line.split(",") if "," in line else line.split()
        if not 7 <= len(tokens) <= 12:
            raise HemError(
                f"{where}: expected 'frame,id,left,top,width,height,conf,...', found {line[:60]!r}"
            )
        frame = whole_number(tokens[0], f"{where}: frame", 1)
        left, top, width, height, confidence = (number(token, where) for token in tokens[2:7])
        kind, visible = _PEDESTRIAN, 1.0
        if len(tokens) >= 8 and number(tokens[7], where) >= 1:  # MOT15 has coordinates (-1) here
            kind = whole_number(tokens[7], f"{where}: class", 1, 1000)
            visible = number(tokens[8], where) if len(tokens) >= 9 else 1.0
        if kind != _PEDESTRIAN and kind not in _LIKE_PERSON:
            continue
        ignore = confidence == 0 or kind in _LIKE_PERSON or 0 <= visible < min_visible
        box = RawBox(left - 1, top - 1, left - 1 + width, top - 1 + height, 1, ignore, f"line {line_number}")
        rows.setdefault(frame, []).append(box)
    return rows
