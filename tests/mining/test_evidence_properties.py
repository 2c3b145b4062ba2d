"""Any setting of any query parameter, by any rule: from evidence as from scratch, or refused."""

import hashlib
from dataclasses import fields, replace

import numpy as np
import pytest

from hem.artifacts.evidence import load_evidence, save_evidence
from hem.errors import HemError
from hem.mining.collect import collect_evidence
from hem.mining.index import index_of
from hem.mining.run import query
from hem.mining.thresholds import ElicitedThresholds, HemThresholds, TemporalThresholds
from hem.structures import Kind
from hem.structures.evidence import CollectSettings

# so many disturbances are allowed that every frame with a detection is asked, whatever the ranges
WIDE = CollectSettings(
    floor_score=0.1,
    search_margin=None,
    window=5,
    max_gap=4,
    score_threshold=(0.3, 0.9),
    neighbour_threshold=(0.1, 0.5),
    iou_threshold=(0.2, 0.6),
    variants=("a", "b", "c"),
    elicit_share=0.9,
    still_s=0.2,
)
SEEDS = range(5)


def temporal(rng):
    score, label = rng.uniform(0.3, 0.85), rng.choice([0.0, rng.uniform(0.3, 0.9)])
    return TemporalThresholds(
        score_threshold=float(score),
        neighbour_threshold=float(min(score, rng.uniform(0.1, 0.5))),
        max_score=float(rng.uniform(0.8, 1.2)),
        strong_factor=float(rng.uniform(0.1, 1)),
        window=int(rng.integers(1, 6)),
        window_s=float(rng.uniform(0, 0.6)),
        min_window=int(rng.integers(1, 4)),
        ncc_threshold=float(rng.uniform(-0.2, 0.9)),
        track_ncc=float(rng.uniform(0.3, 1)),
        visible_share=float(rng.uniform(0.01, 1)),
        iou_threshold=float(rng.uniform(0.2, 0.6)),
        steadiness_threshold=float(rng.uniform(0, 0.6)),
        score_weight=float(rng.uniform(0, 0.3)),
        inside_weight=float(rng.uniform(0, 0.5)),
        border=float(rng.choice([0, rng.uniform(0, 0.5)])),
        min_side=float(rng.choice([0, rng.uniform(15, 21)])),
        link_iou=float(rng.uniform(0.1, 0.7)),
        min_track=int(rng.integers(1, 5)),
        max_gap=int(rng.integers(0, 5)),
        agree_iou=float(rng.uniform(0.2, 0.8)),
        steady_share=float(rng.uniform(0.1, 0.9)),
        label_threshold=float(label),
        ignore_threshold=rng.choice([None, 0.1]),
    )


def elicited(rng):
    score = rng.uniform(0.3, 0.9)
    low = rng.uniform(0, 0.6)
    return ElicitedThresholds(
        score_threshold=float(score),
        neighbour_threshold=float(rng.uniform(0.1, score)),
        negative_response=float(low),
        positive_response=float(rng.uniform(low, 0.9)),
        support_weight=float(rng.choice([0.0, rng.uniform(0, 2)])),
        min_variants=int(rng.integers(1, 4)),
        clear_iou=float(rng.uniform(0, 1)),
        link_iou=float(rng.uniform(0.1, 0.7)),
        min_track=int(rng.integers(1, 5)),
        label_threshold=float(rng.choice([0.0, rng.uniform(0.3, 0.9)])),
        ignore_threshold=rng.choice([None, 0.1]),
        needs_answer=bool(rng.integers(2)),
        labels_need_answer=bool(rng.integers(2)),
        static_share=float(rng.choice([2.0, rng.uniform(0.1, 1)])),
        static_s=float(rng.uniform(0.1, 1)),
        still_change=float(rng.choice([0.0, rng.uniform(0.05, 1)])),
        refine_boxes=bool(rng.integers(2)),
    )


def both(rng):
    return HemThresholds(temporal(rng), elicited(rng))


def answer(frame, boxes_xyxy, labels, detect, variants):
    """Answers that depend on the box alone, as a detector's would on the picture; some not visible."""
    scores = np.empty((len(boxes_xyxy), len(variants)))
    for row, box in enumerate(boxes_xyxy):
        seed = int.from_bytes(hashlib.sha256(box.tobytes()).digest()[:4], "big")
        drawn = np.random.default_rng(seed).uniform(-0.3, 1, len(variants))
        scores[row] = np.where(drawn < -0.2, np.nan, np.maximum(drawn, 0))
    # each answer a little beside the box, so that averaging the boxes shows
    places = np.asarray(boxes_xyxy)[:, None] + np.arange(1, len(variants) + 1)[None, :, None]
    places = np.where(np.nan_to_num(scores)[..., None] > 0, places, np.nan)
    return scores, np.where(np.isnan(scores), np.nan, np.where(scores > 0, 0.8, 0.0)), places


def collected(clip, settings):
    known = {picture.tobytes(): t for t, picture in enumerate(clip.frames)}

    def detect(batch):
        pictures = [picture.permute(1, 2, 0).contiguous().numpy().tobytes() for picture in batch]
        return [clip.found.frame(known[picture]) for picture in pictures]

    return collect_evidence(clip.batches(), detect=detect, settings=settings, elicit=answer)


def exactly(rule, thresholds):
    """Ranges of one point each: the least that a pass from scratch has to find out."""
    if rule == "elicited":
        return WIDE
    t = thresholds if rule == "temporal" else thresholds.temporal
    scores = t.score_threshold, t.label_score
    return replace(
        WIDE,
        window=t.window,
        max_gap=t.max_gap,
        score_threshold=(min(scores), max(scores)),
        neighbour_threshold=(t.neighbour_threshold,) * 2,
        iou_threshold=(t.iou_threshold,) * 2,
    )


@pytest.mark.parametrize(("rule", "draw"), [("temporal", temporal), ("elicited", elicited), ("hem", both)])
def test_every_query_parameter_from_evidence_as_from_scratch(make_clip, tmp_path, rule, draw):
    kinds, fewer = set(), 0
    for seed in SEEDS:
        freeze = (4, 9, 10, 15) if seed % 2 else ()  # repeated frames
        clip = make_clip(40 + seed, n_frames=20, labels=1 + seed % 2, freeze=freeze)
        save_evidence(tmp_path / f"{rule}{seed}", collected(clip, WIDE))
        evidence = load_evidence(tmp_path / f"{rule}{seed}")
        rng = np.random.default_rng([seed, len(rule)])
        for _ in range(3):
            thresholds = draw(rng)
            scratch = collected(clip, exactly(rule, thresholds))
            fewer += len(scratch.neighbours) < len(evidence.neighbours)
            found = query(evidence, rule, thresholds).examples()
            assert found == query(scratch, rule, thresholds).examples()
            kinds |= {example.kind for example in found}
    assert kinds == set(Kind)  # every kind was compared
    assert fewer > 0 or rule == "elicited"


@pytest.mark.parametrize(("kind", "draw"), [(TemporalThresholds, temporal), (ElicitedThresholds, elicited)])
def test_the_property_varies_every_query_parameter(kind, draw):
    drawn = [draw(np.random.default_rng(seed)) for seed in range(12)]
    for one in fields(kind):
        assert len({getattr(thresholds, one.name) for thresholds in drawn}) > 1, one.name


def test_answers_do_not_depend_on_what_was_asked_before(make_clip):
    """What is remembered between queries must never leak into another setting."""
    clip = make_clip(50, n_frames=20, labels=2)
    evidence = collected(clip, WIDE)
    rng = np.random.default_rng(3)
    base = both(rng)
    settings = [base]
    for one in fields(TemporalThresholds):  # neighbours in one parameter at a time, and back
        other = _changed(base.temporal, one.name, getattr(temporal(rng), one.name))
        settings += [HemThresholds(other, base.elicited), HemThresholds(base.temporal, elicited(rng))]
    for thresholds in settings:
        fresh = replace(evidence)  # another object, so nothing is remembered of it
        assert query(evidence, "hem", thresholds).examples() == query(fresh, "hem", thresholds).examples()


@pytest.mark.parametrize(("rule", "draw"), [("temporal", temporal), ("hem", both)])
@pytest.mark.parametrize("most", [0, 50_000])
def test_a_sweep_over_one_evidence_answers_each_setting_as_a_cold_start_does(
    make_clip, monkeypatch, rule, draw, most
):
    """Whether a video's gaps and overlaps are worked out once or for each setting; always part by part."""
    monkeypatch.setattr("hem.mining.gap_pairs._MOST", most)
    monkeypatch.setattr("hem.mining.index.MOST_KEPT", most)
    for part in ("temporal._ROWS", "gap_pairs._ROWS", "gap_pairs._TOGETHER"):
        monkeypatch.setattr(f"hem.mining.{part}", 7)
    evidence = collected(make_clip(52, n_frames=30, labels=2), WIDE)
    rng = np.random.default_rng(4)
    filled = 0
    for _ in range(40):
        thresholds = draw(rng)
        with monkeypatch.context() as cold:
            cold.setattr("hem.mining.gap_pairs._MOST", 0)
            cold.setattr("hem.mining.index.MOST_KEPT", 50_000)
            for part in ("temporal._ROWS", "gap_pairs._ROWS", "gap_pairs._TOGETHER"):
                cold.setattr(f"hem.mining.{part}", 8_192)
            expected = query(replace(evidence), rule, thresholds)
        found = query(evidence, rule, thresholds)
        assert found.examples() == expected.examples()
        assert (found.row == expected.row).all()
        filled += int(np.isfinite(found.evidence.get("gap_frames", np.zeros(0))).sum())
    known = index_of(evidence).remembered("gap pairs", (), lambda: pytest.fail("never asked"), room=1)
    assert (known is not None) == (most > 0)
    assert filled


def test_too_many_gaps_are_worked_out_for_each_setting_however_often_it_is_asked(make_clip, monkeypatch):
    evidence = collected(make_clip(52, n_frames=30, labels=2), WIDE)
    pairs = []
    for most in (0, 50_000):
        monkeypatch.setattr("hem.mining.gap_pairs._MOST_KEPT", most)
        fresh = replace(evidence)
        for seed in range(4):
            query(fresh, "temporal", temporal(np.random.default_rng(seed)))
        pairs.append(index_of(fresh).remembered("gap pairs", (), lambda: None, room=1))
    assert pairs[0] is None and pairs[1].complete


@pytest.mark.parametrize("above", [0, 1])
def test_gaps_are_worked_out_once_up_to_so_many_pairs_and_no_further(make_clip, monkeypatch, above):
    evidence = collected(make_clip(52, n_frames=30, labels=2), WIDE)
    found, limits = evidence.detections, evidence.collected
    useful = index_of(evidence).distinct[found.frame_index] & (found.scores >= limits.score_threshold[0])
    frame = found.frame_index[useful]
    apart = frame[None, :] - frame[:, None]
    count = int(((apart >= 2) & (apart <= limits.max_gap + 1)).sum())
    monkeypatch.setattr("hem.mining.gap_pairs._MOST", count - above)
    for seed in range(4):
        query(evidence, "temporal", temporal(np.random.default_rng(seed)))
    known = index_of(evidence).remembered("gap pairs", (), lambda: pytest.fail("never asked"), room=1)
    assert count > 100 and (known is None) == bool(above)


def _changed(base, name, value):
    try:
        return replace(base, **{name: value})
    except HemError:  # not with the other thresholds of this setting
        return base


@pytest.mark.parametrize(
    "change",
    [
        {"score_threshold": 0.91},
        {"score_threshold": 0.29, "neighbour_threshold": 0.2},
        {"label_threshold": 0.91},
        {"neighbour_threshold": 0.09},
        {"neighbour_threshold": 0.51},
        {"iou_threshold": 0.61},
        {"iou_threshold": 0.19},
        {"window": 6},
        {"max_gap": 5},
    ],
)
@pytest.mark.parametrize("rule", ["temporal", "hem"])
def test_outside_the_collected_ranges_is_refused(make_clip, rule, change):
    evidence = collected(make_clip(40, n_frames=3), WIDE)
    inside = TemporalThresholds(0.9, 0.5, window=5, max_gap=4, iou_threshold=0.6, label_threshold=0.9)
    outside = replace(inside, **change)
    wrap = (lambda t: t) if rule == "temporal" else (lambda t: HemThresholds(t, ElicitedThresholds()))
    query(evidence, rule, wrap(inside))
    with pytest.raises(HemError, match=next(iter(change))):
        query(evidence, rule, wrap(outside))


@pytest.mark.parametrize("change", [{"min_variants": 4}, {"neighbour_threshold": 0.09}])
def test_elicited_outside_what_was_collected_is_refused(make_clip, change):
    evidence = collected(make_clip(40, n_frames=3), WIDE)
    query(evidence, "elicited", ElicitedThresholds(min_variants=3, neighbour_threshold=0.1))
    with pytest.raises(HemError, match=next(iter(change))):
        query(evidence, "elicited", replace(ElicitedThresholds(), **change))


TIGHT = replace(WIDE, elicit_share=0.3)  # a third of the frames at most can be asked about


def test_a_tight_budget_is_spent_alike_whatever_the_collected_ranges(make_clip):
    """Otherwise an answer from evidence would not be the answer of mining from scratch."""
    clip = make_clip(61, n_frames=70, labels=2, freeze=(9, 10, 40))
    rng = np.random.default_rng(8)
    wide = collected(clip, TIGHT)
    asked = np.unique(wide.detections.frame_index[wide.responses.candidate])
    assert 5 < len(asked) < 20  # the budget binds
    fewer, kinds = 0, set()
    for _ in range(6):
        thresholds = both(rng)
        scratch = collected(clip, replace(exactly("hem", thresholds), elicit_share=TIGHT.elicit_share))
        fewer += len(scratch.neighbours) < len(wide.neighbours)
        found = query(wide, "hem", thresholds).examples()
        assert found == query(scratch, "hem", thresholds).examples()
        kinds |= {example.kind for example in found}
    assert fewer and kinds == set(Kind)
