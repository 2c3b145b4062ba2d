"""Which detections flicker, judged by overlap alone: the default of the video figures.

This is the isolation of Jin et al. (2018) without template matching: the neighbour frames' boxes are
compared with the detection's own place only. It needs no pixels, so it serves every arm alike. A rule
that also tracks the template can be passed to the video figures in its stead.
"""

import numpy as np
from numpy.typing import NDArray

from hem.ops.boxes import paired_iou_inclusive
from hem.structures import VideoDetections


def isolated_by_overlap(
    detections: VideoDetections,
    score_threshold: float,
    *,
    window: int = 5,
    iou_threshold: float = 0.2,
) -> NDArray[np.bool_]:
    """Return bool (N,): detections without a neighbour of their class just before and just after.

    Detections below ``score_threshold`` do not exist, neither as candidates nor as neighbours. Frame t
    is examined if t - window + 1 >= 0 and t + window < F; a frame with a gap within the window is not,
    since nothing is known there. A detection is isolated when none within ``window`` frames on either
    side overlaps it with inclusive-pixel IoU > ``iou_threshold`` (exactly at it does not count). The
    size, border and highest-score exemptions of mining are left out: a flicker at the border is still
    one.

    Raising ``window`` or lowering ``iou_threshold`` calls fewer detections isolated; raising
    ``score_threshold`` hides weak neighbours and so calls true objects isolated that dip under it.
    """
    n_frames = detections.n_frames
    known = detections.decoded
    for gap in detections.gaps:
        known[gap.first_frame : gap.end_frame] = False
    rows = np.flatnonzero(detections.scores >= score_threshold)
    frames, labels = detections.frame_index[rows], detections.labels[rows]
    boxes = detections.boxes_xyxy[rows]
    result = np.zeros(len(detections), dtype=bool)
    for frame in np.unique(frames).tolist():
        first, last = frame - window, frame + window
        if first + 1 < 0 or last >= n_frames or not known[max(first, 0) : last + 1].all():
            continue
        begin, start, end, stop = np.searchsorted(frames, [first, frame, frame + 1, last + 1])
        others = np.r_[begin:start, end:stop]
        near = paired_iou_inclusive(boxes[start:end, None], boxes[None, others]) > iou_threshold
        near &= labels[start:end, None] == labels[others][None, :]
        result[rows[start:end]] = ~near.any(axis=1)
    return result
