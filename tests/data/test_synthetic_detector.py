import numpy as np
import pytest
import torch

from hem.data.simulated_detector import SimulatedDetector
from hem.data.simulated_video import render_frames, simulated_truth
from hem.errors import HemError
from hem.ops.template_match import best_match_opencv
from hem.structures import VideoInfo, VideoTruth

VIDEO = VideoInfo("simulated.mp4", width=480, height=360, fps=25.0)
WINDOW = 5


def iou(box, boxes):
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    inter = np.clip(high - low, 0, None).prod(axis=1)
    return inter / ((box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) - inter)


def isolated(found, threshold, neighbour_threshold):
    """Which detections over ``threshold`` have no overlapping one of their class nearby; plain and slow."""
    rows = set()
    for k in np.flatnonzero(found.scores >= threshold):
        step = np.abs(found.frame_index - found.frame_index[k])
        near = (step > 0) & (step <= WINDOW) & (found.labels == found.labels[k])
        near &= found.scores >= neighbour_threshold
        if not (iou(found.boxes_xyxy[k], found.boxes_xyxy[near]) > 0.2).any():
            rows.add((int(found.frame_index[k]), tuple(found.boxes_xyxy[k].tolist())))
    return rows


def keys(boxes):
    return {(box.frame_index, box.box_xyxy) for box in boxes}


@pytest.mark.parametrize("seed", range(6))
def test_the_planted_flickers_are_exactly_the_isolated_detections(seed):
    truth = simulated_truth(seed)
    found, answer = SimulatedDetector(seed, n_persistent=2).run(truth, VIDEO)
    assert len(answer.flickers) == 6
    assert isolated(found, 0.8, 0.8) == keys(answer.flickers)
    assert isolated(found, 0.8, 0.05) == keys(answer.flickers)


@pytest.mark.parametrize("seed", range(4))
def test_spikes_look_isolated_only_without_low_neighbours(seed):
    found, answer = SimulatedDetector(seed, n_spikes=4, n_gaps=1).run(simulated_truth(seed), VIDEO)
    spikes = {spike.frame_index for spike in answer.spikes}
    assert len(answer.spikes) == 4
    alone = isolated(found, 0.8, 0.8)
    assert keys(answer.flickers) < alone
    assert {frame for frame, box in alone - keys(answer.flickers)} == spikes
    assert isolated(found, 0.8, 0.3) == keys(answer.flickers)


@pytest.mark.parametrize("faint", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_gaps_are_exactly_the_missed_objects(seed, faint):
    truth = simulated_truth(seed)
    found, answer = SimulatedDetector(seed, n_gaps=5, longest_gap=4, faint_in_gaps=faint).run(truth, VIDEO)
    missed = set()
    for frame, box, label in zip(truth.frame_index, truth.boxes_xyxy, truth.labels, strict=True):
        rows = found.rows_of(int(frame))
        sure = (found.scores[rows] >= 0.8) & (found.labels[rows] == label)
        if not (iou(box, found.boxes_xyxy[rows][sure]) > 0.5).any():
            missed.add((int(frame), tuple(box.tolist())))
    assert missed == keys(answer.gap_boxes)
    assert sum(gap.end_frame - gap.first_frame for gap in answer.gaps) == len(missed)
    assert all(1 <= gap.end_frame - gap.first_frame <= 4 for gap in answer.gaps)
    in_gaps = [found.scores[found.rows_of(frame)] for frame, _ in missed]
    assert any((scores < 0.8).any() for scores in in_gaps) == faint


def test_persistent_alarms_stay_in_place_and_cover_no_object():
    truth = simulated_truth(3, n_objects=4)
    _, answer = SimulatedDetector(3, n_flickers=0, n_persistent=1, persistent_frames=20).run(truth, VIDEO)
    frames = [box.frame_index for box in answer.persistent]
    assert frames == list(range(frames[0], frames[0] + 20))
    assert len({box.box_xyxy for box in answer.persistent}) == 1
    for box in answer.persistent:
        near = truth.boxes_xyxy[truth.rows_of(box.frame_index)]
        assert (iou(np.array(box.box_xyxy), near) == 0).all()


def test_flickers_meet_the_published_rule():
    _, answer = SimulatedDetector(1, n_flickers=8).run(simulated_truth(1, n_objects=3), VIDEO)
    for flicker in answer.flickers:
        left, top, right, bottom = flicker.box_xyxy
        assert left >= 50 and top >= 50 and right < 430 and bottom < 310
        assert (right - left + 1) * (bottom - top + 1) >= 1600
        assert WINDOW <= flicker.frame_index < 80 - WINDOW


def test_same_seed_same_answer_and_other_seed_another():
    truth = simulated_truth(0)
    first, answer = SimulatedDetector(0).run(truth, VIDEO)
    second, again = SimulatedDetector(0).run(truth, VIDEO)
    assert answer == again and np.array_equal(first.boxes_xyxy, second.boxes_xyxy)
    assert SimulatedDetector(1).run(truth, VIDEO)[1] != answer


def test_nothing_planted_gives_clean_tracks():
    truth = simulated_truth(2)
    quiet = SimulatedDetector(2, n_flickers=0, n_persistent=0, n_gaps=0)
    found, answer = quiet.run(truth, VIDEO)
    assert (answer.flickers, answer.persistent, answer.gap_boxes, answer.spikes) == ((), (), (), ())
    assert len(found) == len(truth.labels)
    assert found.scores.min() >= 0.82
    assert isolated(found, 0.8, 0.8) == set()


def test_ignored_and_short_lived_objects_are_not_detected():
    truth = simulated_truth(2, n_objects=2)
    keep = (truth.object_id == 0) | (truth.frame_index < 15)
    short = VideoTruth(
        truth.video_id,
        truth.frame_index[keep],
        truth.boxes_xyxy[keep],
        truth.labels[keep],
        truth.ignore[keep],
        truth.object_id[keep],
        truth.labelled_frames,
        truth.class_names,
    )
    found, _ = SimulatedDetector(2, n_flickers=0, n_persistent=0, n_gaps=0).run(short, VIDEO)
    assert len(found) == 80  # 15 frames are under 2 (window + min_track) = 16
    ignored = VideoTruth(**{**vars(short), "ignore": short.object_id == 0})
    found, _ = SimulatedDetector(2, n_flickers=0, n_persistent=0, n_gaps=0).run(ignored, VIDEO)
    assert len(found) == 0


def test_jumping_objects_and_full_frames_are_refused():
    truth = simulated_truth(0)
    moved = truth.boxes_xyxy.copy()
    moved[truth.frame_index >= 40] += 60
    with pytest.raises(HemError, match="jumps"):
        SimulatedDetector(0).run(VideoTruth(**{**vars(truth), "boxes_xyxy": moved}), VIDEO)
    with pytest.raises(HemError, match="do not fit"):
        simulated_truth(0, n_objects=13)
    with pytest.raises(HemError, match="no room for another false alarm"):
        SimulatedDetector(0, n_flickers=500).run(truth, VIDEO)
    with pytest.raises(HemError, match="no room for another gap"):
        SimulatedDetector(0, n_gaps=200).run(truth, VIDEO)
    with pytest.raises(HemError, match="leave no room"):
        SimulatedDetector(0, n_gaps=0).run(simulated_truth(0, n_frames=12), VIDEO)


def frames_of(truth, seed=0):
    batches = list(render_frames(truth, VIDEO, seed, batch_size=32))
    assert [index for batch in batches for index in batch.frame_indices.tolist()] == list(range(80))
    return torch.cat([batch.frames for batch in batches])


def test_rendered_frames_let_template_matching_find_everything_again():
    truth = simulated_truth(4)
    _, answer = SimulatedDetector(4).run(truth, VIDEO)
    grey = frames_of(truth).float().mean(1).round().byte().numpy()
    for flicker in answer.flickers:
        left, top, right, bottom = (int(value) for value in flicker.box_xyxy)
        template = grey[flicker.frame_index, top:bottom, left:right]
        for offset in (-WINDOW, -1, 1, WINDOW):
            region = grey[flicker.frame_index + offset, top - 40 : bottom + 40, left - 40 : right + 40]
            value, *place = best_match_opencv(template, region)
            assert value > 0.99
            assert sorted(place) == [40, 40]
    for gap in answer.gaps:
        before = truth.boxes_xyxy[truth.rows_of(gap.first_frame - 1)][
            truth.object_id[truth.rows_of(gap.first_frame - 1)] == gap.object_id
        ][0]
        after = truth.boxes_xyxy[truth.rows_of(gap.first_frame)][
            truth.object_id[truth.rows_of(gap.first_frame)] == gap.object_id
        ][0]
        left, top, right, bottom = (int(value) for value in np.round(before))
        template = grey[gap.first_frame - 1, top:bottom, left:right]
        value, _, _ = best_match_opencv(
            template, grey[gap.first_frame, top - 20 : bottom + 20, left - 20 : right + 20]
        )
        assert value > 0.9
        assert iou(before, after[None])[0] > 0.5


def test_rendered_frames_depend_on_their_seed_only():
    truth = simulated_truth(4)
    assert torch.equal(frames_of(truth), frames_of(truth))
    assert not torch.equal(frames_of(truth), frames_of(truth, seed=1))
