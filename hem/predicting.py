"""A checkpoint's predictions as the files that each protocol reads, so that there is one way to figures.

What is written can be handed to a benchmark's own program, or to ``predictions=`` again.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from hem.artifacts import whole_file
from hem.config import EvaluateConfig
from hem.data.base import DetectionDataset
from hem.data.bundle import DataBundle, LabelledImages, readable
from hem.data.coco_json import CocoJson
from hem.data.convert import to_coco_json, to_miss_rate_json
from hem.data.fddb import Fddb
from hem.detectors.protocol import Detector
from hem.errors import HemError
from hem.instantiate import instantiate
from hem.reporting.steps import Steps
from hem.structures import Detections, VideoInfo
from hem.training.checkpoint import detector_from, load_checkpoint
from hem.training.measure import (
    accelerator_of,
    detect_stills,
    detect_to,
    made_otherwise,
    stored_gaps,
    targets_of,
)
from hem.training.videos import Videos
from hem.video.manifest import about_frames, scan_videos

FLOOR_SCORE = 0.01  # below it nothing changes an average precision at two digits
_BATCH = 8
FACES = 5000  # of an image of WIDER FACE; the fullest has some 2,000
FDDB_IMAGES = "originalPics"


@dataclass(frozen=True)
class Predicted:
    """Where predictions and ground truth lie, and what a table must say of the data.

    ``only`` are the files of the folder ``predictions`` that count, where others of an earlier call with
    other videos may lie beside them; None for all.
    """

    predictions: Path
    ground_truth: Path
    note: str = ""
    only: tuple[Path, ...] | None = None


@dataclass(frozen=True)
class Job:
    """One checkpoint to ask: its detector, the command's settings, a folder to write to, a display."""

    detector: Detector
    config: EvaluateConfig
    folder: Path
    steps: Steps

    def images(self, dataset: LabelledImages) -> list[Detections]:
        """Return the detections of every image, in order."""
        show = partial(self.steps.progress, f"stills {self.folder.name}")
        return detect_stills(self.detector, dataset, FLOOR_SCORE, _BATCH, show)

    def of_class(self, name: str) -> int:
        """Return the label of a class by name; a detector of one class means that one.

        Raises:
            HemError: if it knows several classes and not this one.
        """
        names = self.detector.class_names
        if name in names:
            return names.index(name) + 1
        if len(names) == 1:
            return 1
        raise HemError(f"the checkpoint knows the classes {list(names)}, the benchmark asks for {name!r}")

    def bundle(self, why: str) -> DataBundle:
        """Return the data that ``+data=`` names.

        Raises:
            HemError: if none is named; ``why`` says what it is for.
        """
        if self.config.data is None:
            raise HemError(f"checkpoint= needs +data=NAME and data.root=DIR: {why}")
        bundle: DataBundle = instantiate(self.config.data, "data", DataBundle)
        return replace(bundle, test=readable(bundle.test))

    def truth(self, why: str) -> Path:
        """Return ``ground_truth=``.

        Raises:
            HemError: if it is not given or not there; ``why`` says what it is.
        """
        if self.config.ground_truth is None:
            raise HemError(f"give ground_truth=DIR: {why}")
        path = Path(self.config.ground_truth)
        if not path.exists():
            raise HemError(f"ground_truth={path} is not there: {why}")
        return path


def predict(name: str, config: EvaluateConfig, checkpoint: Path, folder: Path, steps: Steps) -> Predicted:
    """Ask a checkpoint what a protocol wants to know, and write it as the protocol's files.

    Args:
        name: the protocol.
        config: settings of the command; which of ``data``, ``ground_truth`` and ``videos`` are needed
            depends on the protocol, and a missing one is named.
        checkpoint: file that hem wrote.
        folder: where ``predictions`` (and ground truth that had to be made) go.
        steps: shows progress.

    Raises:
        HemError: if something needed is missing, or the checkpoint's classes do not fit.
    """
    if name not in _WRITERS:
        raise HemError(f"protocol {name!r} is unknown; there are {', '.join(sorted(_WRITERS))}")
    detector = detector_from(load_checkpoint(checkpoint), checkpoint).to(accelerator_of("auto"))
    return _WRITERS[name](Job(detector, config, folder, steps))


def _coco(job: Job) -> Predicted:
    bundle = job.bundle("its test images are measured")
    if bundle.class_names != job.detector.class_names:
        raise HemError(
            f"the checkpoint knows the classes {list(job.detector.class_names)}, the data has "
            f"{list(bundle.class_names)}; they must be the same, in the same order"
        )
    truth = job.folder / "ground_truth.json"
    images: Sequence[int] = range(1, len(bundle.test) + 1)
    categories: Sequence[int] = range(1, len(bundle.class_names) + 1)
    if isinstance(bundle.test, CocoJson):  # the file's own ids and areas: its figures are those of the file
        given = bundle.test.as_given()
        _write_json(truth, given)
        images, categories = [one["id"] for one in given["images"]], bundle.test.category_ids
    elif isinstance(bundle.test, DetectionDataset):
        to_coco_json(bundle.test, truth)
    else:
        _write_json(truth, _truth_of_targets(bundle.test))
    rows = _results(job.images(bundle.test), images, dict(enumerate(categories, 1)))
    return Predicted(_write_json(job.folder / "predictions.json", rows), truth, bundle.note)


def _truth_of_targets(test: LabelledImages) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    every = range(1, len(test.class_names) + 1)
    for image, target in enumerate(targets_of(test), 1):
        rows = [
            (box, label, 0)
            for box, label in zip(target.boxes_xyxy.tolist(), target.labels.tolist(), strict=True)
        ]
        rows += [(box, label, 1) for box in target.ignore_xyxy.tolist() for label in every]
        for box, label, crowd in rows:
            row = {"id": len(annotations) + 1, "image_id": image, "category_id": label, "iscrowd": crowd}
            annotations.append({**row, "bbox": _xywh(box)})
    return {
        "images": [{"id": image} for image in range(1, len(test) + 1)],
        "categories": [{"id": label, "name": name} for label, name in enumerate(test.class_names, 1)],
        "annotations": annotations,
    }


def _wider_face(job: Job) -> Predicted:
    why = "the folder of wider_easy_val.mat, wider_medium_val.mat and wider_hard_val.mat (eval_tools)"
    truth = job.truth(why)
    data = _files(job.bundle("+data=wider_face, whose validation images are measured").test)
    face = job.of_class("face")
    job.detector.set_limit(_limit(job.config.protocol))
    folder = job.folder / "predictions"
    for name, found in zip(data.image_ids, job.images(data), strict=True):
        path = PurePosixPath(name)
        text = _face_text(path.stem, found, face)
        _write(folder / path.parent.name / f"{path.stem}.txt", text)
    return Predicted(folder, truth)


def _limit(protocol: Mapping[str, Any]) -> int:
    """Return ``protocol.max_detections``; what a detector is built with would hide most faces of a crowd."""
    limit = protocol.get("max_detections", FACES)
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise HemError(f"protocol.max_detections={limit!r} must be a whole number >= 1")
    return limit


def _fddb(job: Job) -> Predicted:
    truth = job.truth(f"the folder that holds FDDB-folds/ and {FDDB_IMAGES}/")
    data = Fddb(truth)
    face = job.of_class("face")
    text = "".join(
        _face_text(str(PurePosixPath(name).with_suffix("").relative_to(FDDB_IMAGES)), found, face)
        for name, found in zip(data.image_ids, job.images(data), strict=True)
    )
    _write(job.folder / "predictions" / "fold-all-out.txt", text)
    return Predicted(job.folder / "predictions", truth)


def _face_text(name: str, found: Detections, label: int) -> str:
    lines = [
        " ".join(repr(value) for value in (*_xywh(box), score)) for box, score in _of_label(found, label)
    ]
    return "\n".join([name, str(len(lines)), *lines]) + "\n"


def _miss_rate(job: Job) -> Predicted:
    data = _files(job.bundle("+data=caltech or +data=city_persons, whose test images are measured").test)
    person = job.of_class(data.class_names[0])
    truth = job.folder / "ground_truth.json"
    to_miss_rate_json(data, truth)
    rows = _results(job.images(data), range(1, len(data) + 1), {person: 1})
    return Predicted(_write_json(job.folder / "predictions.json", rows), truth)


def _video(job: Job) -> Predicted:
    truth = job.truth("truth of the videos (<video id>.parquet, <video id>.txt, or gt.txt beside the video)")
    if job.config.videos is None:
        raise HemError("give videos=PATH: protocol=video looks at every frame of them")
    copies = Path(job.config.output_dir) / "videos"
    scanned = scan_videos(job.config.videos, copies, job.steps.reading("videos"))
    for skipped in scanned.left_out:
        job.steps.say(f"skipped {skipped.path}: {skipped.reason}")
    data = Videos(scanned.videos, job.config.video)
    folder = job.folder / "predictions"
    model = job.detector.digest()
    files = {video: folder / f"{video.video_id}.parquet" for video in scanned.videos}
    for video, file in files.items():
        if file.is_file() and made_otherwise(file, model, video, FLOOR_SCORE):
            file.unlink()
        detect_shown(file, job.detector, model, data, video, FLOOR_SCORE, job.steps)
    return Predicted(folder, truth, only=tuple(files.values()))


def detect_shown(
    file: Path,
    detector: Detector,
    digest: str,
    videos: Videos,
    video: VideoInfo,
    floor_score: float,
    steps: Steps,
) -> None:
    """Write what detect_to does, showing how far it is, and say which frames were lost and why.

    Gaps of a file that is there already are said again: whoever looks at it must know of them.
    """
    total = about_frames([video])

    def show(done: int, _: int | None) -> None:
        steps.progress(f"detect {video.video_id}", done, total)

    error = detect_to(file, detector, digest, videos, video, floor_score, show)
    gaps = stored_gaps(file)
    for gap in gaps:
        steps.say(f"{video.video_id}: {gap}")
    if error and all(gap.end_frame is not None for gap in gaps):  # else the last gap has said it
        steps.say(f"{video.video_id}: {error}")


def _files(dataset: LabelledImages) -> DetectionDataset:
    if not isinstance(dataset, DetectionDataset):
        raise HemError("this protocol needs a dataset that is read from files; see conf/data")
    return dataset


def _of_label(found: Detections, label: int) -> Iterator[tuple[Sequence[float], float]]:
    rows = zip(found.boxes_xyxy.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True)
    return ((box, score) for box, own, score in rows if own == label)


def _results(
    found: Sequence[Detections], image_ids: Sequence[int], category_of: Mapping[int, int]
) -> list[dict[str, Any]]:
    """Return detections as COCO results; labels without a category are left out."""
    rows: list[dict[str, Any]] = []
    for image, one in zip(image_ids, found, strict=True):
        for label in sorted(set(one.labels.tolist()) & set(category_of)):
            rows += [
                {"image_id": image, "category_id": category_of[label], "bbox": _xywh(box), "score": score}
                for box, score in _of_label(one, label)
            ]
    return rows


def _xywh(box: Sequence[float]) -> list[float]:
    left, top, right, bottom = box
    return [left, top, right - left, bottom - top]


def _write_json(path: Path, value: object) -> Path:
    _write(path, json.dumps(value, allow_nan=False) + "\n")
    return path


def _write(path: Path, text: str) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


_WRITERS: Mapping[str, Callable[[Job], Predicted]] = {
    "coco": _coco,
    "wider_face": _wider_face,
    "fddb": _fddb,
    "miss_rate": _miss_rate,
    "video": _video,
}
