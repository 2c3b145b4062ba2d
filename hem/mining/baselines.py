"""Baselines on the footing of the real rules: the same detections, frame budget and output."""

import hashlib
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hem.errors import HemError
from hem.structures import HardExample, Kind, VideoDetections

_RANK = {Kind.HARD_NEGATIVE: 2, Kind.HARD_POSITIVE: 2, Kind.PSEUDO_LABEL: 1, Kind.IGNORE: 0}
_TRIES = 64  # places tried for one random box before the frame is given up as full


def mine_random(
    detections: VideoDetections,
    *,
    per_frame: int = 1,
    seed: int = 0,
    round_number: int = 1,
) -> list[HardExample]:
    """Return random background boxes as hard negatives (rule ``random``).

    In every frame that was decoded, ``per_frame`` boxes are placed uniformly inside the frame, each
    with the size and label of a random detection of the video (those larger than the frame are
    left out), where they touch no detection of the frame, of whatever score and class, nor each
    other. A crowded frame may give fewer. Frame k's boxes depend on seed, video and k alone.

    Args:
        detections: one video, down to the collecting floor: what lies under it cannot be avoided.
        per_frame: boxes a frame, >= 0; raising it makes the examples of a frame more alike.
        seed: chooses sizes and places.
        round_number: mining round, from 1.

    Raises:
        HemError: if the video's size is unknown, or per_frame < 0.
    """
    video = detections.video
    if video.width < 1 or video.height < 1:
        raise HemError(f"{video.video_id}: its width and height must be known to place random boxes")
    if per_frame < 0:
        raise HemError(f"random baseline: per_frame={per_frame} must be >= 0")
    sizes = detections.boxes_xyxy[:, 2:] - detections.boxes_xyxy[:, :2]
    fits = (sizes > 0).all(1) & (sizes[:, 0] <= video.width) & (sizes[:, 1] <= video.height)
    usable = np.flatnonzero(fits & _readable(detections))
    columns = (*detections.boxes_xyxy[usable].T, detections.labels[usable], detections.frame_index[usable])
    usable = usable[np.lexsort(columns)]  # no draw depends on the order of detections in a frame
    if len(usable) == 0:
        return []
    identity = zlib.crc32((video.digest or video.video_id).encode())
    found = []
    for frame in np.flatnonzero(detections.decoded).tolist():
        generator = np.random.default_rng([seed, identity, frame])
        taken = detections.boxes_xyxy[detections.rows_of(frame)]
        for _ in range(per_frame):
            row, box = _free_box(generator, usable, sizes, taken, video.width, video.height)
            if row < 0:
                continue
            taken = np.concatenate([taken, box[None]])
            found.append(
                _example(
                    detections, frame, box, int(detections.labels[row]), None,
                    Kind.HARD_NEGATIVE, "random", round_number,
                )
            )  # fmt: skip
    return found


def mine_score(
    detections: VideoDetections,
    *,
    low: float,
    high: float,
    seed: int = 0,
    round_number: int = 1,
) -> list[HardExample]:
    """Return detections with low <= score < high as hard negatives (rule ``score``).

    Raising ``high`` takes in true objects the detector is unsure of; lowering ``low`` adds easy
    background. ``seed`` is there for the common signature: nothing here is random.

    Raises:
        HemError: if low > high.
    """
    if low > high:
        raise HemError(f"score baseline: low={low} must not be above high={high}")
    scores = detections.scores
    rows = np.flatnonzero((scores >= low) & (scores < high) & _readable(detections))
    return _from_rows(detections, rows, Kind.HARD_NEGATIVE, "score", round_number)


def mine_pseudo_labels(
    detections: VideoDetections,
    *,
    score_threshold: float,
    seed: int = 0,
    round_number: int = 1,
) -> list[HardExample]:
    """Return detections with score >= score_threshold as pseudo-labels (rule ``pseudo_labels``).

    Raising the threshold trades missed objects, which become background, for fewer false labels.
    ``seed`` is there for the common signature: nothing here is random.
    """
    rows = np.flatnonzero((detections.scores >= score_threshold) & _readable(detections))
    return _from_rows(detections, rows, Kind.PSEUDO_LABEL, "pseudo_labels", round_number)


def limit_frames(
    examples: Sequence[HardExample], max_frames: int | None, *, seed: int = 0
) -> list[HardExample]:
    """Return the examples of at most ``max_frames`` frames (None: of all), in the order given.

    Frames with a hard example come first, as they are what an arm replays, then those with labels, then
    those that hold only ignore regions; among them those with the greatest weight. Equal ones are drawn
    in an order made from seed, video digest and frame, so the choice depends neither on the order of the
    examples nor on how many there are elsewhere.

    Raises:
        HemError: if max_frames < 0.
    """
    if max_frames is None:
        return list(examples)
    if max_frames < 0:
        raise HemError(f"frame budget: max_frames={max_frames} must be >= 0")
    best: dict[tuple[str, str, int], tuple[int, float]] = {}
    for example in examples:
        key = _frame_key(example)
        worth = _RANK[example.kind], example.weight
        best[key] = max(best.get(key, worth), worth)
    ranked = sorted(best, key=lambda key: (*(-part for part in best[key]), _drawn(seed, key), key))
    chosen = set(ranked[:max_frames])
    return [example for example in examples if _frame_key(example) in chosen]


def _frame_key(example: HardExample) -> tuple[str, str, int]:
    return example.video_digest, example.video_id, example.frame_index


def _drawn(seed: int, key: tuple[str, str, int]) -> bytes:
    digest, video_id, frame = key
    return hashlib.sha256(f"{seed}|{digest or video_id}|{frame}".encode()).digest()


def _free_box(
    generator: np.random.Generator,
    usable: NDArray[np.int64],
    sizes: NDArray[np.float64],
    taken: NDArray[np.float64],
    width: int,
    height: int,
) -> tuple[int, NDArray[np.float64]]:
    """Return the row whose size was used and a box that touches none of ``taken``; row -1 if none."""
    for _ in range(_TRIES):
        row = int(usable[generator.integers(len(usable))])
        room = np.array([width, height]) - sizes[row]
        corner = generator.random(2) * room
        box = np.concatenate([corner, corner + sizes[row]])
        apart = (
            (taken[:, 0] >= box[2])
            | (taken[:, 2] <= box[0])
            | (taken[:, 1] >= box[3])
            | (taken[:, 3] <= box[1])
        )
        if bool(apart.all()):
            return row, box
    return -1, np.zeros(4)


def _readable(detections: VideoDetections) -> NDArray[np.bool_]:
    """Return bool (N,): the detection's frame was decoded, so that it can be shown to a detector again."""
    return detections.decoded[detections.frame_index]


def _from_rows(
    detections: VideoDetections, rows: NDArray[np.int64], kind: Kind, rule: str, round_number: int
) -> list[HardExample]:
    """Turn detection rows into examples; boxes without extent teach nothing and are left out."""
    boxes = detections.boxes_xyxy[rows]
    solid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return [
        _example(
            detections, int(detections.frame_index[row]), detections.boxes_xyxy[row],
            int(detections.labels[row]), float(detections.scores[row]), kind, rule, round_number,
        )
        for row in rows[solid].tolist()
    ]  # fmt: skip


def _example(
    detections: VideoDetections,
    frame: int,
    box: NDArray[np.float64],
    label: int,
    score: float | None,
    kind: Kind,
    rule: str,
    round_number: int,
) -> HardExample:
    left, top, right, bottom = (float(value) for value in box)
    time_s = float(detections.frame_times_s[frame])
    return HardExample(
        video_id=detections.video.video_id,
        video_digest=detections.video.digest,
        frame_index=frame,
        time_s=time_s,
        box_xyxy=(left, top, right, bottom),
        label=label,
        kind=kind,
        score=score,
        weight=1.0,
        rule=rule,
        round=round_number,
    )
