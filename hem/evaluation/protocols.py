"""Every protocol behind one call: files in, figures and curves out."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hem.errors import HemError
from hem.evaluation import coco, coco_files, fddb, miss_rate, video_files, wider_face
from hem.evaluation.frames import pair_videos
from hem.evaluation.matching import match_videos
from hem.evaluation.purity import false_share_of_detections, purity
from hem.evaluation.video import Curve, best_f1_threshold, curve_of, flickers_per_minute
from hem.structures import VideoDetections, VideoTruth

Points = tuple[NDArray[np.float64], NDArray[np.float64]]

SOURCES = {
    "coco": "Lin et al., Microsoft COCO, ECCV 2014; computed by pycocotools",
    "wider_face": "Yang et al., WIDER FACE, CVPR 2016; its evaluation program (IoU 0.5, 1000 thresholds)",
    "fddb": "Jain and Learned-Miller, FDDB, UM-CS-2010-009; its evaluation program",
    "miss_rate": "Dollar et al., PAMI 2012 (measure, Caltech); Zhang et al., CityPersons, CVPR 2017",
    "video": "hem's own: false alarms and flickers a minute of video at fixed recall (IoU 0.5)",
}
RECALLS = (0.5, 0.7, 0.8, 0.9)


@dataclass(frozen=True, eq=False)
class ProtocolResult:
    """What a protocol says of one set of predictions.

    Attributes:
        figures: name -> number, or None where it could not be measured (nested by class or kind).
        curves: name -> (x, y), float64 arrays of one length.
        axes: what x and y are.
        source: who defined the protocol.
    """

    figures: dict[str, Any]
    curves: dict[str, Points]
    axes: tuple[str, str]
    source: str = ""
    options: dict[str, str] = field(default_factory=dict)


def run_protocol(
    name: str,
    predictions: Path,
    ground_truth: Path,
    *,
    miss_rate_setups: str = "citypersons",
    only: Collection[Path] | None = None,
) -> ProtocolResult:
    """Return the figures of predictions made by any program, read from files.

    Args:
        name: ``coco`` (results JSON; ground truth JSON), ``wider_face`` (folder or tar archive of
            ``<event>/<image>.txt``; folder of the ``.mat`` files), ``fddb`` (folder of
            ``fold-*-out.txt``; folder of ``FDDB-fold-*-ellipseList.txt``), ``miss_rate`` (results JSON;
            ground truth JSON with height, vis_ratio and ignore; pedestrians are category 1 in both, others
            are left out) or ``video`` (detections as hem writes them; truth as hem writes it, or
            MOTChallenge text).
        miss_rate_setups: ``citypersons`` or ``caltech``.
        only: of ``video``: the files below ``predictions`` that count; None for all.

    Raises:
        HemError: if the protocol is unknown, or a file is absent or damaged.
    """
    if name not in _RUNNERS:
        raise HemError(f"protocol {name!r} is unknown; there are {', '.join(sorted(_RUNNERS))}")
    predictions, ground_truth = Path(predictions), Path(ground_truth)
    for what, path in (("predictions", predictions), ("ground_truth", ground_truth)):
        if not path.exists():
            raise HemError(f"{what}={path} is not there")
    options = {"setups": miss_rate_setups} if name == "miss_rate" else {}
    chosen = {"only": only} if name == "video" else {}
    figures, curves, axes = _RUNNERS[name](predictions, ground_truth, **options, **chosen)
    return ProtocolResult(figures, curves, axes, SOURCES[name], options)


_Answer = tuple[dict[str, Any], dict[str, Points], tuple[str, str]]


def _coco(predictions: Path, ground_truth: Path) -> _Answer:
    truth, names = coco_files.read_truth(ground_truth)
    arrays = coco.accumulated(truth, coco_files.read_results(predictions, truth))
    curves: dict[str, Points] = {}
    recall = np.linspace(0, 1, 101)
    for k, name in enumerate(names):
        at_half = arrays["precision"][0, :, k, 0, -1]
        if (at_half > -1).all():
            curves[name] = (recall, at_half)
    return coco.figures_of(arrays, names), curves, ("recall", "precision at IoU 0.5")


def _wider_face(predictions: Path, ground_truth: Path) -> _Answer:
    truth = wider_face.read_truth(ground_truth)
    result = wider_face.evaluate(wider_face.read_predictions(predictions), truth)
    counts = {"images": result.images, "images_without_predictions": result.missing}
    return {**result.average_precision, **counts}, dict(result.curves), ("recall", "precision")


def _fddb(predictions: Path, ground_truth: Path) -> _Answer:
    ellipses = fddb.read_ellipses(ground_truth)
    sizes = _fddb_sizes(ground_truth / "originalPics", list(ellipses))
    result = fddb.evaluate(fddb.read_detections(predictions), ellipses, sizes)
    figures: dict[str, Any] = {}
    for kind, continuous in (("discrete", False), ("continuous", True)):
        for count in fddb.FIXED_COUNTS:
            figures[f"{kind}_true_positive_rate_at_{count}"] = result.rate_at(count, continuous)
        rates = result.continuous if continuous else result.discrete
        figures[f"{kind}_true_positive_rate_at_last"] = float(rates[-1]) if len(rates) else None
    figures |= {
        "last_false_positives": int(result.false_positives[-1]) if len(result.thresholds) else 0,
        "faces": result.faces,
        "images": result.images,
        "images_without_predictions": result.missing,
    }
    counts = result.false_positives.astype(np.float64)
    curves = {"discrete": (counts, result.discrete), "continuous": (counts, result.continuous)}
    return figures, curves, ("false positives", "true-positive rate")


def _fddb_sizes(root: Path, names: list[str]) -> dict[str, tuple[int, int]]:
    """Return the sizes of those images that lie under ``root`` as they do in the original archive."""
    sizes: dict[str, tuple[int, int]] = {}
    for name in names if root.is_dir() else ():
        path = root / f"{name}.jpg"
        if path.resolve().is_relative_to(root.resolve()) and path.is_file():
            try:
                with Image.open(path) as image:
                    sizes[name] = image.size
            except (OSError, ValueError, Image.DecompressionBombError) as error:
                raise HemError(f"{path} is not a readable image: {error}") from None
    return sizes


def _miss_rate(predictions: Path, ground_truth: Path, setups: str) -> _Answer:
    known = {"citypersons": miss_rate.CITYPERSONS, "caltech": miss_rate.CALTECH}
    if setups not in known:
        raise HemError(f"miss_rate_setups={setups!r} is unknown; there are citypersons and caltech")
    truth = miss_rate.read_truth(ground_truth)
    found = miss_rate.read_detections(predictions)
    figures: dict[str, Any] = {}
    curves: dict[str, Points] = {}
    for setup in known[setups]:
        result = miss_rate.evaluate(found, truth, setup)
        figures[setup.name] = result.log_average
        figures[f"{setup.name}_pedestrians"] = result.pedestrians
        curves[setup.name] = (result.false_positives_per_image, result.miss_rate)
    return figures, curves, ("false positives per image", "miss rate")


def _video(predictions: Path, ground_truth: Path, only: Collection[Path] | None) -> _Answer:
    found, examples = video_files.read_detections(predictions, only)
    video_files.require_truth(ground_truth, [one.video.video_id for one in found], "ground_truth")
    read = [video_files.read_truth(ground_truth, one) for one in found]
    truths = [truth for truth in read if truth is not None]
    detections = [one for one, _ in pair_videos(found, truths)]
    matched = match_videos(detections, truths)
    curve = curve_of(matched)
    figures: dict[str, Any] = {"videos": len(truths), "frames": curve.n_frames, "minutes": curve.minutes}
    figures |= _video_figures(curve, detections, truths)
    if examples:
        figures["purity"] = purity(examples, truths)
    names = next((one.class_names for one in detections if one.class_names), ())
    curves: dict[str, Points] = {"recall": (curve.false_alarms_per_minute, curve.recall)}
    if len(names) > 1:
        figures["per_class"] = {}
        for label, name in enumerate(names, 1):
            own = curve_of(matched.of_class(label))
            figures["per_class"][name] = _video_figures(own, detections, truths, label)
            curves[f"recall of {name}"] = (own.false_alarms_per_minute, own.recall)
    return figures, curves, ("false alarms per minute", "recall")


def _video_figures(
    curve: Curve,
    detections: Sequence[VideoDetections],
    truths: Sequence[VideoTruth],
    label: int | None = None,
) -> dict[str, Any]:
    """Return the figures of one curve: of all classes together, or of one ``label``."""
    best = best_f1_threshold(curve)
    row = None if best is None else int(np.flatnonzero(curve.thresholds == best)[0])
    figures: dict[str, Any] = {
        "best_f1": None if row is None else float(curve.f1[row]),
        "threshold_at_best_f1": best,
        "recall_at_best_f1": None if row is None else float(curve.recall[row]),
        "false_alarms_per_minute_at_best_f1": _at(curve.false_alarms_per_minute, row),
        "false_alarms_per_frame_at_best_f1": _at(curve.false_alarms_per_frame, row),
        "flickers_per_minute_at_best_f1": flickers_per_minute(detections, truths, best, label=label),
    }
    for recall in RECALLS:
        reached = np.flatnonzero(curve.recall >= recall - 1e-12)
        first = int(reached[0]) if len(reached) and curve.n_true else None
        for kind in ("false_alarms_per_minute", "false_alarms_per_frame"):
            figures[f"{kind}_at_recall_{recall}"] = _at(getattr(curve, kind), first)
    if label is None:
        share = None if best is None else false_share_of_detections(detections, truths, best)
        figures["false_share_of_detections_at_best_f1"] = None if share is None else share.value
    return figures


def _at(values: NDArray[np.float64], row: int | None) -> float | None:
    return None if row is None or not np.isfinite(values[row]) else float(values[row])


_RUNNERS: dict[str, Callable[..., _Answer]] = {
    "coco": _coco,
    "wider_face": _wider_face,
    "fddb": _fddb,
    "miss_rate": _miss_rate,
    "video": _video,
}
