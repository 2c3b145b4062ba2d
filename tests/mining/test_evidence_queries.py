"""An answer from evidence is the answer that mining from scratch with those thresholds gives."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hem.artifacts.evidence import load_evidence, save_evidence
from hem.errors import HemError
from hem.mining.collect import collect_evidence
from hem.mining.fuse import with_clear_negatives
from hem.mining.matching import NeighbourRows
from hem.mining.run import MiningPreset, mine, mine_tables, query
from hem.mining.table import IGNORE, NEGATIVE, PSEUDO, picks
from hem.mining.temporal import mine_temporal, query_temporal
from hem.mining.thresholds import ElicitedThresholds, HemThresholds, TemporalThresholds
from hem.structures import Detections, Kind, VideoDetections, VideoInfo
from hem.structures.evidence import BOX_REGION, CollectSettings, Evidence

WIDE = CollectSettings(
    floor_score=0.1,
    search_margin=None,
    window=6,
    max_gap=4,
    score_threshold=(0.3, 0.8),
    neighbour_threshold=(0.1, 0.5),
    iou_threshold=(0.2, 0.6),
)


def random_thresholds(rng):
    score = float(rng.choice([0.3, 0.5, 0.6, 0.8]))
    return TemporalThresholds(
        score_threshold=score,
        neighbour_threshold=float(min(score, rng.choice([0.1, 0.2, 0.5]))),
        max_score=float(rng.choice([0.9, 0.98, 2.0])),
        strong_factor=float(rng.choice([0.3, 1.0])),
        window=int(rng.integers(1, 7)),
        window_s=float(rng.choice([0.0, 0.2, 0.35, 9.0])),
        min_window=int(rng.integers(1, 4)),
        ncc_threshold=float(rng.choice([0.0, 0.5, 0.8])),
        track_ncc=float(rng.choice([0.5, 0.9])),
        visible_share=float(rng.choice([0.01, 0.5, 1.0])),
        iou_threshold=float(rng.choice([0.2, 0.4, 0.6])),
        steadiness_threshold=float(rng.choice([0.05, 0.2, 0.5])),
        score_weight=float(rng.choice([0.0, 0.2])),
        border=float(rng.choice([0.0, 0.2])),
        min_side=float(rng.choice([0.0, 19.5])),
        link_iou=float(rng.choice([0.2, 0.5])),
        min_track=int(rng.integers(1, 4)),
        max_gap=int(rng.integers(0, 5)),
        agree_iou=float(rng.choice([0.3, 0.7])),
    )


def from_scratch(clip, thresholds, **skip):
    """Collect for exactly one setting, which needs the fewest matches."""
    exact = replace(
        WIDE,
        window=thresholds.window,
        max_gap=thresholds.max_gap,
        score_threshold=(thresholds.score_threshold,) * 2,
        neighbour_threshold=(thresholds.neighbour_threshold,) * 2,
        iou_threshold=(thresholds.iou_threshold,) * 2,
    )
    return collect_evidence(clip.batches(**skip), clip.found, settings=exact)


@pytest.mark.parametrize("seed", range(5))
def test_any_setting_from_evidence_equals_mining_from_scratch(make_clip, tmp_path, seed):
    clip = make_clip(seed, labels=1 + seed % 2, freeze=(9, 10) if seed % 2 else ())
    skip = {"skip": (15, 16)} if seed == 2 else {}
    save_evidence(tmp_path / "e", collect_evidence(clip.batches(**skip), clip.found, settings=WIDE))
    evidence = load_evidence(tmp_path / "e")
    rng = np.random.default_rng(100 + seed)
    kinds, fewer = set(), 0
    for _ in range(8):
        thresholds = random_thresholds(rng)
        exact = from_scratch(clip, thresholds, **skip)
        fewer += len(exact.neighbours) < len(evidence.neighbours)
        answer = mine_temporal(evidence, thresholds)
        assert answer == mine_temporal(exact, thresholds)
        kinds |= {example.kind for example in answer}
    assert kinds == set(Kind)  # every kind was compared
    assert fewer > 0


@pytest.mark.parametrize(
    "change",
    [
        {"score_threshold": 0.81},
        {"score_threshold": 0.29, "neighbour_threshold": 0.1},
        {"neighbour_threshold": 0.09},
        {"neighbour_threshold": 0.51},
        {"iou_threshold": 0.61},
        {"iou_threshold": 0.19},
        {"window": 7},
        {"max_gap": 5},
    ],
)
def test_a_setting_outside_the_collected_ranges_is_refused(make_clip, change):
    clip = make_clip(0, n_frames=4)
    evidence = collect_evidence(clip.batches(), clip.found, settings=WIDE)
    inside = TemporalThresholds(0.6, 0.2, window=6, max_gap=4, iou_threshold=0.6)
    mine_temporal(evidence, inside)
    with pytest.raises(HemError, match=next(iter(change))):
        mine_temporal(evidence, replace(inside, **change))


def test_evidence_without_disturbances_cannot_answer_elicited(make_clip):
    clip = make_clip(0, n_frames=4)
    evidence = collect_evidence(clip.batches(), clip.found, settings=WIDE)
    with pytest.raises(HemError, match="disturbed"):
        query(evidence, "elicited", ElicitedThresholds())


def detector_of(clip):
    """Recognise a frame by its content, as a detector would: it gets pixels only."""
    known = {clip.frames[t].tobytes(): t for t in range(len(clip.frames))}

    def detect(batch):
        pictures = [batch[k].permute(1, 2, 0).contiguous().numpy().tobytes() for k in range(len(batch))]
        return [clip.found.frame(known[picture]) for picture in pictures]

    return detect


def constant_elicit(response):
    def elicit(frame, boxes_xyxy, labels, detect, variants):
        scores = np.full((len(boxes_xyxy), len(variants)), response)
        boxes = np.repeat(np.asarray(boxes_xyxy)[:, None], len(variants), axis=1)
        return scores, np.where(scores > 0, 1.0, 0.0), boxes

    return elicit


ELICITING = replace(WIDE, variants=("a", "b"), elicit_share=0.25)


def test_a_detector_and_its_saved_detections_give_the_same_evidence(make_clip):
    clip = make_clip(4)
    one = collect_evidence(clip.batches(5), detect=detector_of(clip), settings=WIDE)
    other = collect_evidence(clip.batches(24), clip.found, settings=WIDE, threads=1)
    assert one.detector_calls == 24 and one.detections.n_frames == 24
    for name in ("candidate", "offset", "ncc", "tracked_xyxy"):
        np.testing.assert_array_equal(getattr(one.neighbours, name), getattr(other.neighbours, name))


def test_disturbed_frames_stay_within_their_share(make_clip):
    clip = make_clip(5, n_frames=40)
    calls = {}
    for size in (3, 40):
        evidence = collect_evidence(
            clip.batches(size), detect=detector_of(clip), settings=ELICITING, elicit=constant_elicit(0.1)
        )
        total = evidence.detector_calls + evidence.elicit_calls
        assert 0 < evidence.elicit_calls <= 0.25 * total
        calls[size] = evidence.responses.candidate.tolist()
    assert calls[3] == calls[40]  # which frames were asked does not depend on the batch size


@pytest.mark.parametrize(
    ("response", "kind"), [(0.05, Kind.HARD_NEGATIVE), (0.9, Kind.PSEUDO_LABEL), (0.4, Kind.IGNORE)]
)
@pytest.mark.parametrize("rule", ["elicited", "hem"])
def test_responses_decide(make_clip, response, kind, rule):
    clip = make_clip(6, n_frames=30)
    evidence = collect_evidence(
        clip.batches(), detect=detector_of(clip), settings=ELICITING, elicit=constant_elicit(response)
    )
    elicited = ElicitedThresholds(0.5, 0.1, min_variants=2, support_weight=0.0)  # the answers alone
    temporal = TemporalThresholds(0.5, 0.1, window=6, max_gap=0, steadiness_threshold=-1.0)
    table = query(evidence, rule, elicited if rule == "elicited" else HemThresholds(temporal, elicited))
    asked = np.unique(evidence.detections.frame_index[evidence.responses.candidate])
    assert len(asked) > 0
    confident = np.isin(table.frame_index, asked) & (table.scores >= 0.5)
    assert confident.any()
    assert {table.examples()[0].rule} == {rule}
    names = {e.kind for e in table.examples() if e.frame_index in asked and (e.score or 0) >= 0.5}
    assert names == {kind}


def test_quantile_settings_are_counted_over_all_videos(make_clip):
    clips = [make_clip(seed) for seed in (7, 8)]
    evidence = []
    for number, clip in enumerate(clips):
        found = replace(clip.found, video=replace(clip.found.video, video_id=f"v{number}.mp4"))
        evidence.append(
            collect_evidence(clip.batches(), found, settings=replace(WIDE, score_threshold=(0, 2)))
        )
    preset = MiningPreset(
        "temporal", TemporalThresholds(0.8, 0.8, 1.0, window=6, max_gap=4), "quantile", per_frame=5.0
    )
    with pytest.raises(HemError, match="neighbour_threshold"):
        mine_tables(evidence, preset)  # resolves to a raw score above the collected 0.5
    preset = replace(preset, thresholds=replace(preset.thresholds, neighbour_threshold=0.0))
    confident = [e for e in mine(evidence, preset) if e.kind is Kind.PSEUDO_LABEL]
    pool = np.sort(np.concatenate([item.detections.scores for item in evidence]))
    assert confident and min(e.score for e in confident) >= pool[-48]  # one a frame: 1 - 0.8 of five
    with pytest.raises(HemError, match="two videos"):
        mine([evidence[0], evidence[0]], preset)


def test_an_empty_video_gives_nothing(make_clip):
    clip = make_clip(0, n_frames=5)
    evidence = collect_evidence(
        clip.batches(), detect=lambda batch: [Detections.empty()] * len(batch), settings=WIDE
    )
    assert query_temporal(evidence, TemporalThresholds(window=6, max_gap=4)).examples() == []
    with pytest.raises(HemError, match="no frame"):
        collect_evidence(iter(()), detect=lambda batch: [], settings=WIDE)
    with pytest.raises(HemError, match="either"):
        collect_evidence(clip.batches(), settings=WIDE)


def test_a_detector_that_miscounts_is_named(make_clip):
    clip = make_clip(0, n_frames=5)
    with pytest.raises(HemError, match="answers"):
        collect_evidence(clip.batches(), detect=lambda batch: [], settings=WIDE)
    assert torch.get_default_dtype() == torch.float32


def test_a_negative_on_a_surer_detection_is_ignored_instead():
    boxes = [
        [0, 0, 10, 10],  # a surer detection that is no negative
        [8, 0, 18, 10],  # overlaps it with IoU 20 / 180 = 1/9
        [40, 0, 50, 10],  # stands alone
        [60, 0, 70, 10],  # less sure than the negative on it
        [61, 0, 71, 10],
        [80, 0, 90, 10],  # surer, but a negative itself
        [81, 0, 91, 10],
        [0, 0, 10, 10],  # surer, in the next frame
    ]
    scores = [0.9, 0.6, 0.6, 0.5, 0.6, 0.8, 0.6, 0.9]
    verdict = np.array([PSEUDO, NEGATIVE, NEGATIVE, IGNORE, NEGATIVE, NEGATIVE, NEGATIVE, PSEUDO])
    found = VideoDetections(
        VideoInfo("v"), [0] * 7 + [1], boxes, scores, [1, 2] * 4, np.arange(2.0), floor_score=0.1
    )
    evidence = Evidence(found, np.zeros(2), np.zeros(2), CollectSettings())
    strict = with_clear_negatives(evidence, verdict, 0.1, 0.11)
    assert strict.tolist() == [PSEUDO, IGNORE, NEGATIVE, IGNORE, NEGATIVE, NEGATIVE, NEGATIVE, PSEUDO]
    for lenient in (1 / 9, 1.0):  # an overlap exactly at the limit is clear
        assert with_clear_negatives(evidence, verdict, 0.1, lenient).tolist() == verdict.tolist()
    surer_than_most = with_clear_negatives(evidence, verdict, 0.95, 0.0)  # below it nothing is a rival
    assert surer_than_most.tolist() == verdict.tolist()


def test_a_label_must_reach_the_label_threshold(make_clip):
    evidence = collect_evidence(make_clip(4).batches(), make_clip(4).found, settings=WIDE)
    base = TemporalThresholds(0.3, 0.1, window=6, max_gap=0)
    low, high = (query(evidence, "temporal", replace(base, label_threshold=t)).examples() for t in (0.0, 0.6))
    labels = [{e.example_id for e in found if e.kind is Kind.PSEUDO_LABEL} for found in (low, high)]
    expected = {e.example_id for e in low if e.kind is Kind.PSEUDO_LABEL and (e.score or 0) >= 0.6}
    assert labels[1] == expected
    assert expected < labels[0]


def test_rows_are_picked_as_by_indexing_and_a_whole_column_is_not_copied():
    column = np.arange(6.0)
    for rows in ([0, 1, 2, 3, 4, 5], [1, 0, 2, 3, 4, 5], [1, 2, 3, 4, 5, 5], [0, 2, 5], [5], []):
        got = column[picks(np.array(rows, dtype=np.int64), len(column))]
        assert got.tolist() == [column[row] for row in rows]
        assert (got.base is column) is (rows == [0, 1, 2, 3, 4, 5])
    assert column[:0][picks(np.zeros(0, dtype=np.int64), 0)].tolist() == []


@pytest.mark.parametrize("blocks", [0, 1, 64, 150])
def test_neighbour_rows_come_back_in_the_order_they_came(blocks):
    kept, count = NeighbourRows(), 0
    for _ in range(blocks):
        kept.add([])
        kept.add([(count + k, 1 - 2 * k, BOX_REGION, 0.5, np.full(4, float(count + k))) for k in range(2)])
        count += 2
    table = kept.table()
    assert table.candidate.tolist() == list(range(count))
    assert table.offset.tolist() == [1, -1] * blocks
    assert table.tracked_xyxy[:, 0].tolist() == [float(k) for k in range(count)]
