"""What stays of each video when its evidence is let go: its row of the summary, and what to remark on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hem.mining.presets import Elicited, Hem, Paper, Preset
from hem.structures import FrameGap, Kind, VideoDetections, VideoInfo
from hem.structures.evidence import Evidence
from hem.video.manifest import SkippedVideo

_MOST_EXEMPT = 0.9  # share of what `paper` looks at, beyond which its thresholds hardly fit the scores
_MOST_OUTSIDE = 0.01  # share of boxes wholly outside the picture, beyond which they are of another size of it
_ENOUGH_BOXES = 200  # to tell from where they end that they are of a smaller picture
_SMALL_PART = 0.6  # of width and of height, if all boxes end within it


@dataclass(frozen=True)
class Seen:
    """What stays of a video.

    Attributes:
        video, class_names: of the evidence; ``highest`` is the highest label in it.
        row: what its row of the summary begins with.
        gaps: as people are told.
        candidates, exempt: detections over the score that `paper` asks, and those it never takes.
        size_doubt: why its boxes may be of another size of its pictures; "" where nothing says so.
        flat: detections without width or height.
        unasked: detections are there, disturbances were to be asked for, and none was.
    """

    video: VideoInfo
    class_names: tuple[str, ...]
    highest: int
    row: dict[str, Any]
    gaps: list[str]
    candidates: int
    exempt: int
    size_doubt: str
    flat: int
    unasked: bool

    @classmethod
    def of(cls, evidence: Evidence, preset: Preset) -> "Seen":
        """Return it of a video's evidence, asked by a preset."""
        found = evidence.detections
        over = exempt = 0
        if isinstance(preset, Paper):
            over = int((found.scores >= preset.score_threshold).sum())
            exempt = int((found.scores >= max(preset.max_score, preset.score_threshold)).sum())
        times = found.frame_times_s[found.decoded]
        row = {
            "video": found.video.video_id,
            "seconds": float(times[-1] - times[0]) if len(times) else 0.0,
            "frames": found.n_frames,
            "detections": len(found),
        }
        gaps = [str(gap) for gap in found.gaps]
        names, highest = tuple(found.class_names), int(found.labels.max(initial=1))
        doubt = size_doubt(found, given=not evidence.detector_calls)
        left, top, right, bottom = found.boxes_xyxy.T
        unasked = bool(len(found)) and bool(evidence.collected.variants) and not evidence.elicit_calls
        flat = int(((right <= left) | (bottom <= top)).sum())
        return cls(found.video, names, highest, row, gaps, over, exempt, doubt, flat, unasked)


def size_doubt(found: VideoDetections, *, given: bool) -> str:
    """Return why boxes may be in pixels of another size of their video; "" where nothing says so.

    Args:
        found: the detections.
        given: of a file. A detector was shown the video as it is: where in it objects are is its own matter.
    """
    width, height = found.video.width, found.video.height
    if not len(found) or not width or not height:
        return ""
    size = f"its pictures of {width} x {height} pixels"
    left, top, right, bottom = found.boxes_xyxy.T
    outside = int(((left >= width) | (top >= height) | (right <= 0) | (bottom <= 0)).sum())
    if outside > _MOST_OUTSIDE * len(found):
        return f"{outside} of its {len(found)} boxes lie wholly outside {size}"
    x, y = float(right.max()), float(bottom.max())
    small = x <= _SMALL_PART * width and y <= _SMALL_PART * height
    if given and small and len(found) >= _ENOUGH_BOXES:
        return f"all of its {len(found)} boxes end within {x:.0f} x {y:.0f} of {size}"
    return ""


def remarks_on(preset: Preset, seen: Sequence[Seen]) -> list[str]:
    """Return what is legal and probably not meant: boxes of another size, scores of another scale, labels
    that have no name."""
    doubts = [f"{one.video.video_id}: {one.size_doubt}" for one in seen if one.size_doubt]
    if doubts:
        more = f" (and so in {len(doubts) - 1} more videos)" if len(doubts) > 1 else ""
        asked = "were they found at another size? Boxes must be in pixels of the video that is mined"
        doubts = [f"{doubts[0]}{more}: {asked}"]
    if isinstance(preset, Hem | Elicited):
        doubts += _remarks_on_unasked(seen)
    return doubts + _remarks_on_flat_boxes(seen) + _remarks_on_names(seen) + _remarks_on_scores(preset, seen)


def _remarks_on_unasked(seen: Sequence[Seen]) -> list[str]:
    """Return what to say of videos without disturbance, which are judged by the video alone or not at all."""
    unasked = [one for one in seen if one.unasked]
    if not unasked:
        return []
    return [
        f"in {len(unasked)} of {len(seen)} videos (first {unasked[0].video.video_id}) no frame was detected "
        "again under disturbance: they are shorter than collect.elicit_share allows one for, or hold no "
        "candidate; `hem` judges them by the video alone, `elicited` finds nothing there"
    ]


def _remarks_on_flat_boxes(seen: Sequence[Seen]) -> list[str]:
    """Return what to say of boxes that no example can have."""
    flat = [one for one in seen if one.flat]
    if not flat:
        return []
    count, where = sum(one.flat for one in flat), flat[0].video.video_id
    more = f" and {len(flat) - 1} more videos" if len(flat) > 1 else ""
    return [
        f"{count} detections in {where}{more} have no width or no height: they count as neighbours, but "
        "become no examples, since they'd teach nothing"
    ]


def _remarks_on_names(seen: Sequence[Seen]) -> list[str]:
    """Return what to say where labels go beyond the names: they may be counted from another number."""
    nameless = next((one for one in seen if one.class_names and one.highest > len(one.class_names)), None)
    if nameless is None:
        return []
    names = ", ".join(f"{label} is {name}" for label, name in enumerate(nameless.class_names[:3], 1))
    more = ", …" if len(nameless.class_names) > 3 else ""
    return [
        f"{nameless.video.video_id}: label {nameless.highest} has no name among class_names ({names}{more}): "
        "are the detections' classes numbered otherwise? Label 1 is the first name"
    ]


def _remarks_on_scores(preset: Preset, seen: Sequence[Seen]) -> list[str]:
    """Return what to say where nearly nothing could become a hard negative; scores are not always 0 to 1."""
    over, exempt = sum(one.candidates for one in seen), sum(one.exempt for one in seen)
    if not isinstance(preset, Paper) or exempt <= _MOST_EXEMPT * over:
        return []
    return [
        f"{exempt} of the {over} detections over mining.score_threshold={preset.score_threshold:g} have "
        f"scores of mining.max_score={preset.max_score:g} or more, which `paper` never takes for false: "
        "give both on the scale of these scores"
    ]


def nothing_of(video: SkippedVideo) -> dict[str, Any]:
    """Return the row of a video that could not be read."""
    counts = {kind.value: 0 for kind in Kind}
    gaps = [str(FrameGap(0, None, video.reason))]
    return {"video": video.video_id, "seconds": 0.0, "frames": 0, "detections": 0, **counts, "gaps": gaps}
