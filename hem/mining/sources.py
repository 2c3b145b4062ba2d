"""Detections that other programs wrote, read into VideoDetections.

Every reader gives boxes (left, top, right, bottom) with right = left + width and bottom = top + height
in float64, exactly as the numbers in the file say, and times at ``video.fps``.
"""

import json
import math
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice, repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hem.artifacts import load_detections
from hem.artifacts.examples import MOST_CLASSES
from hem.errors import HemError
from hem.structures import VideoDetections
from hem.structures.video import VideoInfo

_LARGEST = 1e7  # pixels; a coordinate beyond it is a broken file, and its square would lose whole pixels


def read_authors_text(path: Path, video: VideoInfo, class_names: tuple[str, ...] = ()) -> VideoDetections:
    """Read the paper authors' text format: for each frame a name line, a count line, then the boxes.

    A box line is ``left top width height score``. Frame k of the file is picture k of the video; the
    name line is not looked at. The file's number of frames is the video's, for mining.

    Raises:
        HemError: naming file and line, where a count or number cannot be read or lines are missing.
    """
    frames, rows = array("q"), array("d")
    lines = enumerate(_without_blank_end(_lines(path)), start=1)
    frame, said = 0, ""
    for at, _ in lines:
        number, line = next(lines, (0, ""))
        if not number:
            raise HemError(f"{path}, line {at}: the file ends where the count of frame {frame} belongs")
        try:
            count, before = _count(path, number, line), len(frames)
            said = f" (line {number} announces {count} boxes for frame {frame})"
            for at, box in islice(lines, count):
                rows.extend(_numbers(path, at, box.split(), 5, exact=True))
                frames.append(frame)
        except HemError as error:  # a count that is wrong is noticed only behind its boxes
            raise HemError(f"{error}{said}") from None
        if len(frames) - before < count:
            raise HemError(
                f"{path}, line {number}: frame {frame} announces {count} boxes, "
                f"but the file ends after {len(frames) - before}"
            )
        frame += 1
    if not frame:
        raise HemError(
            f"{path} is empty: the authors' format tells of every frame, also of those without a box (in MOT "
            "text, detections_format=mot, an empty file means that no frame has one)"
        )
    return _build(video, _whole(frames), _table(rows), frame, class_names)


def read_mot_text(path: Path, video: VideoInfo, class_names: tuple[str, ...] = ()) -> VideoDetections:
    """Read MOT text: ``frame,id,left,top,width,height,score,…`` with frames counted from 1, one class.

    Frames without a line are empty; the video's ``n_frames`` (if known) sets how many there are.

    Raises:
        HemError: naming file and line, where a number cannot be read.
    """
    frames, rows = array("q"), array("d")
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        values = _numbers(path, number, line.replace(",", " ").split(), 7, exact=False)
        if not 1 <= values[0] <= 1e9 or values[0] != int(values[0]):  # NaN fails the first
            raise HemError(f"{path}, line {number}: frame {values[0]:g} is not a whole number from 1")
        frames.append(int(values[0]) - 1)
        rows.extend(values[2:7])
    index = _whole(frames)
    return _build(video, index, _table(rows), _frames_of(path, video, index), class_names)


def read_coco_results(
    path: Path,
    video: VideoInfo,
    class_names: tuple[str, ...] = (),
    frame_of_image: dict[int, int] | None = None,
) -> VideoDetections:
    """Read COCO results: a JSON list of ``{image_id, category_id, bbox, score}``.

    Args:
        path: the file.
        video: the video they belong to.
        class_names: names of category 1, 2, ….
        frame_of_image: 0-based frame of each image id; without it the image id is the frame, counted
            from 0.

    Raises:
        HemError: naming the file and the entry (counted from 0) that cannot be read.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise HemError(f"{path} is not there") from None
    except (ValueError, RecursionError) as error:
        raise HemError(f"{path} is not readable JSON: {error}") from None
    if not isinstance(entries, list):
        raise HemError(f"{path} must hold a JSON list of results, got {type(entries).__name__}")
    frames, labels, rows = array("q"), array("q"), array("d")
    for number, entry in enumerate(entries):
        image, label, row = _coco_entry(path, number, entry)
        if frame_of_image is not None and image not in frame_of_image:
            raise HemError(
                f"{path}, entry {number}: image_id {image} belongs to no frame of {video.video_id}"
            )
        frames.append(image if frame_of_image is None else frame_of_image[image])
        labels.append(label)
        rows.extend(row)
    index = _whole(frames)
    count = _frames_of(path, video, index)
    return _build(video, index, _table(rows), count, class_names, _whole(labels))


def _coco_entry(path: Path, number: int, entry: object) -> tuple[int, int, list[float]]:
    where = f"{path}, entry {number}"
    if not isinstance(entry, dict):
        raise HemError(f"{where}: a result must be an object, got {type(entry).__name__}")
    for key in ("image_id", "category_id", "bbox", "score"):
        if key not in entry:
            raise HemError(f"{where}: {key} is missing")
    image, label, bbox = entry["image_id"], entry["category_id"], entry["bbox"]
    for name, value, lowest, highest in (
        ("image_id", image, 0, 2**31 - 1),
        ("category_id", label, 1, MOST_CLASSES),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise HemError(f"{where}: {name} must be a whole number in {lowest}..{highest}, got {value!r}")
    if not isinstance(bbox, list) or len(bbox) != 4:
        raise HemError(f"{where}: bbox must be [left, top, width, height], got {bbox!r}")
    values = [*bbox, entry["score"]]
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
        raise HemError(f"{where}: bbox and score must be numbers, got {values}")
    row = [float(value) if abs(value) < 1e300 else np.inf for value in values]
    if wrong := _wrong(*row):
        raise HemError(f"{where}: {wrong}")
    return image, label, row


_SUFFIXES: dict[str, Callable[[Path, VideoInfo, tuple[str, ...]], VideoDetections]] = {
    "authors": read_authors_text,
    "mot": read_mot_text,
    "coco": read_coco_results,
}


def format_of(path: Path, source: str = "auto") -> str:
    """Return the format a file is read in; see read_detections."""
    if source != "auto":
        return source
    by_name = {".json": "coco", ".parquet": "parquet"}.get(path.suffix.lower())
    if by_name:
        return by_name
    first, second = [*islice((line.strip() for line in _lines(path) if line.strip()), 2), "", ""][:2]
    # a name may hold commas, but it stands above a count
    return "mot" if first.count(",") >= 6 and not second.isdigit() else "authors"


def read_detections(
    path: Path, video: VideoInfo, source: str = "auto", class_names: tuple[str, ...] = ()
) -> VideoDetections:
    """Read detections of one video in any known format.

    Args:
        path: the file.
        video: the video; its size decides what is near the border, its fps the times.
        source: ``authors``, ``mot``, ``coco``, ``parquet``, or ``auto``: by the suffix (``.json``,
            ``.parquet``), and for text by whether the first line has commas (MOT) or not (authors').
        class_names: names of labels 1, 2, … (Parquet files bring their own).

    Raises:
        HemError: if the file cannot be read in that format, or tells of other content or another size
            of pictures than the video's (Parquet alone tells).
    """
    source = format_of(path, source)
    if source == "parquet":
        found = load_detections(path)
        _refuse_another(path, found.video, video)
        return replace(found, video=video)
    if source not in _SUFFIXES:
        raise HemError(
            f"detections format must be auto, parquet or one of {sorted(_SUFFIXES)}, got {source!r}"
        )
    return _SUFFIXES[source](path, video, class_names)


def _refuse_another(path: Path, of: VideoInfo, video: VideoInfo) -> None:
    """Raise HemError where a file says that its detections are of another video, or of another size of it.

    Names say nothing: a video may have been renamed.
    """
    if of.digest and video.digest and of.digest != video.digest:
        raise HemError(
            f"{path} holds detections of {of.video_id}, which is another file than "
            f"{video.video_id} by its content: give the video they were made on"
        )
    sizes = [(one.width, one.height) for one in (of, video)]
    if all(map(all, sizes)) and sizes[0] != sizes[1]:
        there, here = (f"{width} x {height}" for width, height in sizes)
        raise HemError(
            f"{path} holds boxes on pictures of {there} pixels, and {video.video_id} has {here}: give the "
            "video they were made on, or boxes in its pixels"
        )


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines one by one: a long video's detections never lie in memory as text.

    Only numbers are looked at, so that names of pictures may be in any encoding that keeps ASCII.
    """
    try:
        with path.open(encoding="utf-8", errors="surrogateescape") as file:
            for number, line in enumerate(file, start=1):
                if "\0" in line:
                    raise HemError(f"{path} is not readable text: line {number} holds a zero byte")
                yield line
    except FileNotFoundError:
        raise HemError(f"{path} is not there") from None
    except OSError as error:
        raise HemError(f"{path} is not readable text: {error}") from None


def _without_blank_end(lines: Iterable[str]) -> Iterator[str]:
    blank = 0
    for line in lines:
        if line.strip():
            yield from repeat("\n", blank)
            yield line
            blank = 0
        else:
            blank += 1


def _whole(numbers: "array[int]") -> NDArray[np.int64]:
    return np.frombuffer(numbers, dtype=np.int64) if numbers else np.zeros(0, dtype=np.int64)


def _table(numbers: "array[float]") -> NDArray[np.float64]:
    """Return rows of left, top, width, height, score, (N, 5)."""
    return np.frombuffer(numbers, dtype=np.float64).reshape(-1, 5) if numbers else np.zeros((0, 5))


def _count(path: Path, number: int, line: str) -> int:
    text = line.strip()
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise HemError(f"{path}, line {number}: expected the number of boxes, got {text[:40]!r}")
    return int(text)


def _numbers(path: Path, number: int, words: list[str], wanted: int, *, exact: bool) -> list[float]:
    if len(words) < wanted or (exact and len(words) != wanted):
        raise HemError(f"{path}, line {number}: expected {wanted} numbers, got {len(words)}")
    try:
        values = [float(word) for word in words[:wanted]]
    except ValueError:
        text = " ".join(words[:wanted])[:60]
        raise HemError(f"{path}, line {number}: {text!r} are not all numbers") from None
    if wrong := _wrong(*values[-5:]):
        raise HemError(f"{path}, line {number}: {wrong}")
    return values


def _wrong(left: float, top: float, width: float, height: float, score: float) -> str:
    """Return what is wrong with a box, nothing for a sound one."""
    if not all(map(math.isfinite, (left, top, width, height, score))):
        return "a number is not finite"
    if max(abs(left), abs(top), abs(width), abs(height)) > _LARGEST:
        return f"a coordinate beyond {_LARGEST:g} pixels"
    if width < 0 or height < 0:
        return f"width and height must be >= 0, got {width:g} x {height:g}"
    return ""


def _frames_of(path: Path, video: VideoInfo, frame_index: NDArray[np.int64]) -> int:
    last = int(frame_index.max(initial=-1)) + 1
    if video.n_frames is None:
        if last > 100_000_000:
            raise HemError(f"{path}: frame {last - 1} is beyond any video; is it a frame number?")
        return last
    if last > video.n_frames:
        raise HemError(f"{path}: frame {last - 1} (from 0), but {video.video_id} has {video.n_frames} frames")
    return video.n_frames


def _build(
    video: VideoInfo,
    frame_index: NDArray[np.int64],
    table: NDArray[np.float64],
    n_frames: int,
    class_names: tuple[str, ...],
    labels: NDArray[np.int64] | None = None,
) -> VideoDetections:
    boxes = table[:, :4].copy()
    boxes[:, 2:] += boxes[:, :2]
    in_order = bool((np.diff(frame_index) >= 0).all())  # then no column is copied once more
    order = slice(None) if in_order else np.argsort(frame_index, kind="stable")
    return VideoDetections(
        video=video,
        frame_index=frame_index[order],
        boxes_xyxy=boxes[order],
        scores=table[:, 4].copy()[order],  # a view would keep the whole table
        labels=(np.ones(len(table), dtype=np.int64) if labels is None else labels)[order],
        frame_times_s=np.arange(n_frames, dtype=np.float64) / video.fps,
        class_names=class_names,
    )
