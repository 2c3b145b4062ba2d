"""What a detector's scores are worth: its detections on labelled images that it never learned from."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hem.artifacts import read_json, write_json
from hem.errors import HemError
from hem.evaluation.matching import match_stills
from hem.mining.score_scale import ScaleKind, ScoreScale
from hem.structures import ImageSource
from hem.structures.evidence import Evidence
from hem.training.measure import Report, detect_stills, targets_of

if TYPE_CHECKING:
    from hem.detectors.protocol import Detector

CALIBRATION = "calibration.json"
_KIND = "score_scale"


def calibrate(
    detector: "Detector",
    images: ImageSource,
    *,
    floor_score: float,
    min_count: int = 20,
    batch_size: int = 16,
    report: Report | None = None,
) -> ScoreScale:
    """Return the calibrated scale of a detector.

    Its detections are matched to the labels at IoU 0.5, each class alone; those in ignore regions are
    left out.

    Args:
        detector: whose scores are read.
        images: labelled, and never trained on: on its own training images a detector is surer than it
            may be.
        floor_score: as the evidence was collected; detections below it are not asked for.
        min_count: see ScoreScale.calibrated.
        batch_size: images a pass of the network.
        report: called with (done, in all).

    Raises:
        HemError: if there are fewer than ``min_count`` detections.
    """
    found = detect_stills(detector, images, floor_score, batch_size, report)
    matched = match_stills(found, targets_of(images))
    return ScoreScale.calibrated(matched.scores, matched.true, min_count=min_count)


def save_scale(path: Path, scale: ScoreScale, detector: str) -> None:
    """Write a calibrated scale as JSON with the digest of the detector it holds for ("" = any)."""
    write_json(path, _KIND, scale.to_dict(), made_by={"detector": detector})


def _refuse_other(path: Path, own: str, other: str, which: str) -> None:
    """Raise HemError if a calibration's own detector and another are both known, and differ."""
    if own and other and own != other:
        raise HemError(
            f"calibration={path} is of detector {own[:12]}, but {which} {other[:12]}: scores of two "
            "detectors mean different things"
        )


def load_scale(path: Path, evidence: Sequence[Evidence] = (), asked: str = "") -> ScoreScale:
    """Read what save_scale wrote.

    Args:
        path: the file.
        evidence: that it is to be used on.
        asked: digest of the detector that it is to be used with, where there is no evidence yet.

    Raises:
        HemError: if the file cannot be read, holds no calibration, or that of another detector than
            the one asked or that the evidence is from.
    """
    stored = read_json(path, _KIND)
    try:
        scale, detector = ScoreScale.from_dict(stored), str(stored["made_by"].get("detector", ""))
    except (KeyError, TypeError, ValueError) as error:
        raise HemError(f"calibration={path} holds no score scale: {error}") from None
    if scale.kind is not ScaleKind.CALIBRATED or not len(scale.scores):
        raise HemError(f"calibration={path} holds a {scale.kind.value} scale, not a calibrated one")
    _refuse_other(path, detector, asked, "the one to ask is")
    for one in evidence:
        _refuse_other(path, detector, one.detector_digest, f"the evidence of {one.video_id} is from")
    return scale
