"""What lies over the ends of a gap, against a look at every detection."""

import numpy as np
import pytest

from hem.mining.gap_pairs import explained
from hem.ops.boxes import paired_iou
from hem.structures import VideoDetections, VideoInfo
from hem.structures.evidence import CollectSettings, Evidence

SETTINGS = CollectSettings(floor_score=0.0, window=3, max_gap=5)
FRAMES = 24


def crowded(seed, count=160):
    """Boxes at a few places, of two classes, with two cuts, a damaged frame and three repeated ones."""
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 3, (count, 2)) * 12.0 + rng.uniform(0, 5, (count, 2))
    times_s = np.arange(FRAMES) / 10.0
    times_s[15] = np.nan
    frame = np.sort(rng.choice(np.delete(np.arange(FRAMES), 15), count))
    found = VideoDetections(
        VideoInfo("v.mp4", digest="ab" * 32, width=80, height=80, fps=10.0),
        frame,
        np.concatenate([corner, corner + rng.uniform(8, 20, (count, 2))], axis=1),
        rng.uniform(0, 1, count),
        rng.integers(1, 3, count),
        times_s,
    )
    cut, repeated = np.zeros((2, FRAMES), dtype=np.bool_)
    cut[[4, 20]] = repeated[[7, 8, 13]] = True
    return Evidence(found, cut, repeated, SETTINGS)


def looked_at(evidence, before, after, iou_threshold):
    """Say the same detection by detection."""
    found = evidence.detections
    shot = np.cumsum(evidence.cut_before | ~found.decoded | np.roll(~found.decoded, 1))
    best = -np.inf
    for row, frame in enumerate(found.frame_index):
        inside = found.frame_index[before] < frame < found.frame_index[after]
        if not inside or evidence.duplicate[frame]:
            continue
        for end in (before, after):
            kin = found.labels[row] == found.labels[end] and shot[frame] == shot[found.frame_index[end]]
            if kin and paired_iou(found.boxes_xyxy[row], found.boxes_xyxy[end]) > iou_threshold:
                best = max(best, found.scores[row])
    return best


@pytest.mark.parametrize("complete", [False, True])
@pytest.mark.parametrize("iou_threshold", [0.1, 0.5])
def test_the_surest_detection_over_either_end_is_found(monkeypatch, complete, iou_threshold):
    monkeypatch.setattr("hem.mining.gap_pairs._ROWS", 7)
    reached = 0
    for seed in range(3):
        evidence = crowded(seed)
        found = evidence.detections
        frame, fresh = found.frame_index, ~evidence.duplicate[found.frame_index]
        apart = frame[None, :] - frame[:, None]
        before, after = np.nonzero((apart >= 2) & (apart <= 6) & fresh[None, :] & fresh[:, None])
        some = np.random.default_rng(seed).choice(len(before), 150, replace=False)
        before, after = before[some], after[some]
        got = explained(evidence, before, after, iou_threshold, complete)
        want = [looked_at(evidence, a, b, iou_threshold) for a, b in zip(before, after, strict=True)]
        assert got.tolist() == want
        reached += int(np.isfinite(got).sum())
    assert 50 < reached < 430
