"""How much the picture changes at a detection's place: as a literal reading says, in bounded memory."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from hem.artifacts.evidence import load_evidence, save_evidence
from hem.errors import HemError
from hem.mining.collect import collect_evidence
from hem.mining.run import query
from hem.mining.static import at_unchanged, background, keeps_still
from hem.mining.stillness import LEVELS, LONG_SIDE, REACH, SAMPLES, StillnessMeter
from hem.mining.thresholds import ElicitedThresholds, HemThresholds, TemporalThresholds
from hem.structures import FrameBatch, Kind, VideoDetections, VideoInfo
from hem.structures.evidence import CollectSettings, Evidence

STILL_S = 0.4


def pushed(frames, still_s=STILL_S):
    """Push (time, shot, duplicate, grey, boxes) and return the change of every row."""
    meter, row = StillnessMeter(still_s), 0
    for time_s, shot, duplicate, grey, boxes in frames:
        meter.push(time_s, shot, duplicate, grey, row, boxes)
        row += len(boxes)
    meter.finish()
    return meter.change(np.arange(row), row)


def literally(frames, still_s=STILL_S):
    """The same with every picture at hand, pixel by pixel."""
    scale = min(1.0, LONG_SIDE / max(frames[0][3].shape))

    def small(grey):
        size = tuple(max(1, round(side * scale)) for side in grey.shape[::-1])
        reduced = cv2.resize(grey, size, interpolation=cv2.INTER_AREA) if scale < 1 else grey
        return reduced.astype(int)

    sampled, last, began = [], None, {}
    for time_s, shot, duplicate, grey, _ in frames:
        if not duplicate:
            began.setdefault(shot, time_s)
        slot = (shot, int(np.floor((time_s - began.get(shot, time_s)) * SAMPLES / still_s + 1e-6)))
        if not duplicate and slot != last:
            sampled.append((time_s, shot, small(grey)))
            last = slot
    found = []
    for time_s, shot, duplicate, grey, boxes in frames:
        far = [
            picture
            for at, other, picture in sampled
            if other == shot and still_s - 1e-6 <= abs(at - time_s) <= REACH * still_s + 1e-6
        ]
        for box in boxes:
            if duplicate or len(far) < SAMPLES:
                found.append(np.nan)
                continue
            own = small(grey)
            height, width = own.shape
            x0, y0, x1, y1 = (round(float(side * scale)) for side in box)
            x0, y0 = min(max(x0, 0), width - 1), min(max(y0, 0), height - 1)
            x1, y1 = min(max(x1, x0 + 1), width), min(max(y1, y0 + 1), height)
            shares = []
            for picture in far:
                pixels = [
                    abs(picture[y, x] - own[y, x]) > LEVELS for y in range(y0, y1) for x in range(x0, x1)
                ]
                shares.append(sum(pixels) / len(pixels))
            found.append(float(np.median(shares)))
    return np.array(found)


@pytest.mark.parametrize("seed", range(6))
def test_equals_a_literal_reading_at_any_rate_with_shots_repeats_and_boxes_outside(seed):
    rng = np.random.default_rng(seed)
    height, width = (40, 52) if seed % 2 else (30, 300)  # the second is reduced
    base = rng.integers(40, 200, (height, width))
    frames, time_s, shot = [], 0.0, 0
    for _ in range(60):
        time_s += float(rng.choice([0.04, 0.1, 0.1, 0.3]))  # no constant rate
        shot += rng.random() < 0.04
        grey = np.clip(base + rng.integers(-14, 15, base.shape) * (1 + (np.arange(width) % 7 > 3)), 0, 255)
        corner = rng.uniform(-8, (width, height), (rng.integers(0, 3), 2))
        boxes = np.concatenate([corner, corner + rng.uniform(0, 12, corner.shape)], axis=1)
        frames.append((time_s, shot, bool(rng.random() < 0.1), grey.astype(np.uint8), boxes))
    change = pushed(frames)
    expected = literally(frames)
    np.testing.assert_allclose(change, expected, atol=1e-12)
    known = expected[~np.isnan(expected)]
    assert len(known) > 10 and len(known) < len(expected) and known.max() - known.min() > 0.05


def scene(n_frames=30, fps=10.0):
    """A post, a man before it who sways by a pixel, and someone who passes both."""
    rng = np.random.default_rng(5)
    wall, post, man = (rng.integers(0, 256, size, dtype=np.uint8) for size in ((60, 120), (40, 16), (40, 16)))
    boxes = np.array([[10.0, 10, 26, 50], [60, 10, 76, 50]])
    for t in range(n_frames):
        picture = wall.copy()
        picture[10:50, 10:26] = post
        picture[10:50, 60 + t % 2 : 76 + t % 2] = man
        left = 4 * t
        picture[15:55, left : left + 10] = 255
        noisy = np.clip(picture + rng.integers(-5, 6, picture.shape), 0, 255).astype(np.uint8)
        yield t / fps, 0, False, noisy, boxes


def test_a_post_is_still_and_a_man_who_stands_is_not_though_both_keep_their_boxes():
    change = pushed(list(scene()))
    post, man = change[::2], change[1::2]
    assert not np.isnan(change).any()
    assert np.nanquantile(post, 0.7) < 0.05  # hidden by the passer-by in some frames, and then in those alone
    assert np.nanmin(man) > 0.2


def test_too_short_a_shot_tells_nothing():
    short = [(t, shot, *rest) for (t, _, *rest), shot in zip(scene(), [0] * 25 + [1] * 5, strict=True)]
    change = pushed(short)
    assert np.isnan(change[50:]).all() and not np.isnan(change[:40]).any()


def test_what_is_held_does_not_grow_with_the_video():
    def held(n_frames):
        meter, most, row = StillnessMeter(STILL_S), 0, 0
        frame = next(scene())
        for t in range(n_frames):
            meter.push(t / 25, 0, False, frame[3], row, frame[4])
            row += 2
            most = max(most, len(meter._samples) + len(meter._waiting))
        return most

    assert held(300) == held(1500) <= 25 * REACH * STILL_S + 3 * REACH * SAMPLES


def test_nothing_is_measured_unless_asked():
    change = pushed(list(scene()), still_s=0)
    assert change is None


SETTINGS = CollectSettings(
    floor_score=0.0, search_margin=None, window=2, max_gap=0, score_threshold=(0, 1),
    neighbour_threshold=(0, 1), still_s=0.4,
)  # fmt: skip


def of_clip(clip, settings=SETTINGS, size=6):
    return collect_evidence(clip.batches(size), clip.found, None, settings)


def test_the_pass_measures_it_whatever_the_batches_and_stores_it(make_clip, tmp_path):
    clip = make_clip(3, n_frames=40, freeze=(9, 10))
    evidence = of_clip(clip)
    assert evidence.change is not None
    known = ~np.isnan(evidence.change)
    assert known.any() and (np.isin(evidence.detections.frame_index, (9, 10)) <= ~known).all()
    np.testing.assert_array_equal(of_clip(clip, size=1).change, evidence.change)
    save_evidence(tmp_path / "one", evidence)
    np.testing.assert_array_equal(load_evidence(tmp_path / "one").change, evidence.change)
    save_evidence(tmp_path / "other", of_clip(clip, replace(SETTINGS, still_s=0.5)))
    (tmp_path / "other" / "stillness.parquet").rename(tmp_path / "one" / "stillness.parquet")
    with pytest.raises(HemError, match=r"stillness\.parquet comes from another pass"):
        load_evidence(tmp_path / "one")


def test_frames_that_were_not_read_shift_nothing(make_clip):
    clip = make_clip(3, n_frames=40)
    missing = (12, 13, 14)
    evidence = collect_evidence(clip.batches(skip=missing), clip.found, None, SETTINGS)
    at = np.isin(evidence.detections.frame_index, missing)
    assert at.any() and np.isnan(evidence.change[at]).all()
    rest = [  # what lies behind them is another shot
        (t / 10, int(t > 14), False, cv2.cvtColor(clip.frames[t], cv2.COLOR_RGB2GRAY),
         clip.found.boxes_xyxy[clip.found.rows_of(t)])
        for t in range(40) if t not in missing
    ]  # fmt: skip
    expected = pushed(rest)
    np.testing.assert_array_equal(evidence.change[~at], expected)


def test_evidence_without_it_is_refused_where_a_setting_asks(make_clip):
    evidence = of_clip(make_clip(3), replace(SETTINGS, still_s=0.0))
    assert evidence.change is None
    with pytest.raises(HemError, match=r"still_change=0.1.*collect.still_s"):
        query(evidence, "hem", thresholds(0.1))
    query(evidence, "hem", thresholds(0.0))


def test_lengths_and_settings_that_do_not_fit_are_refused(make_clip):
    evidence = of_clip(make_clip(3))
    with pytest.raises(HemError, match="do not fit"):
        replace(evidence, change=None)
    with pytest.raises(HemError, match="one length"):
        replace(evidence, change=evidence.change[1:])
    with pytest.raises(HemError, match="still_s"):
        CollectSettings(still_s=-1.0)


def thresholds(still_change):
    limits = TemporalThresholds(0.5, 0.2, window=2, window_s=9.0, min_window=1, max_gap=0, min_track=2)
    answers = ElicitedThresholds(
        0.5, 0.2, negative_response=0.3, positive_response=0.5, min_variants=1, clear_iou=1.0,
        still_change=still_change,
    )  # fmt: skip
    return HemThresholds(limits, answers)


def kinds_of_scene(still_change, asked):
    """Kinds by place, of detections at 0.9 that every disturbed frame answers with 0.9, or that none was."""
    frames = list(scene())
    n = len(frames)
    found = VideoDetections(
        VideoInfo("v.mp4", digest="ab" * 32, width=120, height=60, fps=10.0),
        np.repeat(np.arange(n), 2),
        np.concatenate([boxes for *_, boxes in frames]),
        np.full(2 * n, 0.9),
        np.ones(2 * n, dtype=np.int64),
        np.arange(n) / 10.0,
    )
    known = {grey.tobytes(): t for t, (_, _, _, grey, _) in enumerate(frames)}

    def batches():
        for t, (time_s, _, _, grey, _) in enumerate(frames):
            picture = torch.from_numpy(grey)[None, None].expand(1, 3, -1, -1).contiguous()
            yield FrameBatch(found.video, picture, torch.tensor([t]), torch.tensor([time_s]).double())

    def detect(batch):
        return [found.frame(known[picture[0].numpy().tobytes()]) for picture in batch]

    def answer(frame, boxes_xyxy, labels, ask, variants):
        shape = (len(boxes_xyxy), len(variants))
        return np.full(shape, 0.9), np.full(shape, 0.9), np.repeat(boxes_xyxy[:, None], len(variants), 1)

    settings = replace(SETTINGS, variants=("a",), elicit_share=0.9) if asked else SETTINGS
    given = {"detect": detect, "elicit": answer} if asked else {"detections": found}
    examples = query(collect_evidence(batches(), settings=settings, **given), "hem", thresholds(still_change))
    places = [(example.box_xyxy[0] > 40, example.kind) for example in examples.examples()]
    return {kind for man, kind in places if not man}, {kind for man, kind in places if man}


@pytest.mark.parametrize("asked", [True, False])
def test_a_still_place_is_false_and_never_a_label_whether_the_detector_was_asked_or_not(asked):
    labels = {Kind.PSEUDO_LABEL}
    post, man = kinds_of_scene(0.0, asked)
    assert Kind.HARD_NEGATIVE not in post | man and labels <= post & man
    post, man = kinds_of_scene(0.15, asked)
    assert Kind.HARD_NEGATIVE in post and Kind.HARD_NEGATIVE not in man and labels <= man
    assert not labels & post  # not even in the frames in which somebody passes before it


def places(change, boxes):
    """Evidence of one detection a frame."""
    n = len(change)
    found = VideoDetections(
        VideoInfo("v.mp4", digest="ab" * 32, width=400, height=60, fps=10.0),
        np.arange(n), np.array(boxes, dtype=float), np.full(n, 0.9), np.ones(n, dtype=np.int64),
        np.arange(n) / 10.0,
    )  # fmt: skip
    flags = np.zeros(found.n_frames, dtype=bool)
    return Evidence(found, flags, flags, SETTINGS, change=np.array(change))


POST, ELSEWHERE = (20.0, 10.0, 40.0, 50.0), (200.0, 10.0, 220.0, 50.0)


def test_the_place_of_what_is_still_elsewhere_in_time_is_known_where_it_changes():
    change = [0.05] * 6 + [0.5, np.nan] + [0.5]
    boxes = [POST] * 8 + [ELSEWHERE]
    assert at_unchanged(places(change, boxes), 0.1).tolist() == [True] * 8 + [False]
    assert not at_unchanged(places(change, boxes), 0.0).any()


def test_a_place_is_still_only_if_it_mostly_is_and_was_seen_so_often_enough():
    few = places([0.05] * 3 + [0.5], [POST] * 4)
    assert not at_unchanged(few, 0.1).any()
    mostly = places([0.05] * 6 + [0.5] * 5, [POST] * 11)
    assert at_unchanged(mostly, 0.1)[-1]  # 6 of the 10 others
    seldom = places([0.05] * 5 + [0.5] * 7, [POST] * 12)
    assert not at_unchanged(seldom, 0.1)[-1]  # 5 of 11


def test_another_class_or_shot_at_the_place_says_nothing():
    evidence = places([0.05] * 6 + [0.5], [POST] * 7)
    found = evidence.detections
    other = replace(evidence, detections=replace(found, labels=np.array([1] * 6 + [2])))
    assert not at_unchanged(other, 0.1)[-1] and at_unchanged(evidence, 0.1)[-1]
    cut = np.arange(7) == 6
    assert not at_unchanged(replace(evidence, cut_before=cut), 0.1)[-1]


def test_who_stands_for_a_while_and_sways_in_most_frames_is_no_background_and_no_label_then():
    change = [0.05] * 5 + [0.5] * 7 + [0.05]
    boxes = [POST] * 12 + [ELSEWHERE]
    evidence = places(change, boxes)
    alone = [False] * 12 + [True]  # nothing else was ever found at the last one's place
    assert keeps_still(evidence, 0.1).tolist() == alone
    taken, no_label = background(evidence, ElicitedThresholds(still_change=0.1))
    assert taken.tolist() == alone
    assert no_label.tolist() == [True] * 5 + [False] * 7 + [True]


def test_a_place_keeps_still_while_no_more_frames_change_than_do_not():
    even = places([0.05] * 6 + [0.5] * 5, [POST] * 11)  # of the others of a still one 5 and 5
    assert keeps_still(even, 0.1).tolist() == [True] * 6 + [False] * 5
    assert not keeps_still(places([0.05] * 5 + [0.5] * 5, [POST] * 10), 0.1).any()  # 4 and 5
    unknown = places([0.05] * 2 + [np.nan] * 5, [POST] * 7)
    assert keeps_still(unknown, 0.1).tolist() == [True] * 2 + [False] * 5
    assert not keeps_still(even, 0.0).any()


def test_a_frame_with_a_still_box_and_a_swaying_one_at_the_place_counts_as_still():
    boxes = [POST] * 4
    evidence = places([0.05, 0.05, 0.5, 0.5], boxes)
    evidence = replace(
        evidence,
        detections=replace(evidence.detections, frame_index=np.array([0, 1, 1, 2])),
    )
    assert keeps_still(evidence, 0.1).tolist() == [True, True, False, False]


@pytest.mark.parametrize("elsewhere", ["class", "shot"])
def test_what_sways_in_another_class_or_shot_says_nothing_of_a_place(elsewhere):
    evidence = places([0.05] + [0.5] * 3, [POST] * 4)
    assert not keeps_still(evidence, 0.1).any()
    if elsewhere == "class":
        evidence = replace(evidence, detections=replace(evidence.detections, labels=np.array([1, 2, 2, 2])))
    else:
        evidence = replace(evidence, cut_before=np.arange(4) == 1)
    assert keeps_still(evidence, 0.1).tolist() == [True, False, False, False]


@pytest.mark.parametrize("start_s", [0.13, 7.77, 3600.05])
def test_the_time_at_which_a_video_begins_does_not_matter(start_s):
    frames = list(scene())
    later = [(time_s + start_s, *rest) for time_s, *rest in frames]
    np.testing.assert_array_equal(pushed(later), pushed(frames))
