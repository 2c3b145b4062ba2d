"""Which mined examples a report lists and pictures."""

from dataclasses import replace

import numpy as np
import pytest

from hem.artifacts.evidence import save_evidence
from hem.reporting import shown
from hem.reporting.shown import best_first, listed, with_neighbours, with_strips
from hem.structures import HardExample, Kind, VideoDetections, VideoInfo
from hem.structures.evidence import CollectSettings, Evidence, NeighbourTable


def test_best_first_is_right_then_unknown_then_wrong(examples):
    found = examples(6)
    right = {found[0].example_id: False, found[4].example_id: True, found[2].example_id: True}
    ranked = best_first(found, right)
    assert ranked[:2] == [found[4], found[2]]  # 0.148 before 0.074
    assert ranked[-1] == found[0]
    assert [e.weight for e in ranked[2:5]] == sorted((found[i].weight for i in (1, 3, 5)), reverse=True)


def test_strips_show_both_ends_of_every_kind(examples):
    found = examples(400)
    chosen = with_strips(found, {}, most=30)
    assert len(chosen) == len(set(chosen_ids(chosen))) == 30
    for kind in (Kind.HARD_NEGATIVE, Kind.HARD_POSITIVE, Kind.PSEUDO_LABEL):
        ranked = best_first([e for e in found if e.kind is kind], {})
        assert {e.example_id for e in chosen if e.kind is kind} == set(
            chosen_ids([*ranked[:5], *ranked[-5:]])
        )


def chosen_ids(examples):
    return [example.example_id for example in examples]


def test_room_that_a_kind_does_not_need_goes_to_the_others(examples):
    found = [e for e in examples(400) if e.kind is not Kind.HARD_POSITIVE][:200]
    few = [e for e in examples(400) if e.kind is Kind.HARD_POSITIVE][:3]
    chosen = with_strips([*found, *few], {}, most=30)
    kinds = [e.kind for e in chosen]
    assert len(chosen) == 30 and kinds.count(Kind.HARD_POSITIVE) == 3
    assert kinds.count(Kind.IGNORE) == 0
    assert len(with_strips(found[:4], {}, most=30)) == sum(e.kind is not Kind.IGNORE for e in found[:4])
    assert with_strips([], {}) == []


def test_a_long_list_is_cut_and_said(examples, monkeypatch):
    monkeypatch.setattr(shown, "MOST_LISTED", 50)
    monkeypatch.setattr(shown, "MOST_IGNORED", 10)
    found = examples(400)
    always = [found[1], found[2]]
    kept, notes = listed(found, always)
    assert set(chosen_ids(always)) <= set(chosen_ids(kept))
    assert kept == [e for e in found if e.example_id in set(chosen_ids(kept))]  # in order
    assert sum(e.kind is Kind.IGNORE for e in kept) == 10
    assert 50 <= sum(e.kind is not Kind.IGNORE for e in kept) <= 52
    assert notes[0].startswith("50 of 300 mined examples") and notes[1].startswith("10 of 100 ignore regions")
    assert listed(found[:40])[0] == found[:40] and listed(found[:40])[1] == []
    assert listed([])[0] == []


@pytest.fixture
def stored(tmp_path):
    video = VideoInfo("a.mp4", "d" * 64, "a.mp4", 100, 80, 10.0, 3)
    boxes = np.array([[1.0, 2, 30, 40], [50, 2, 80, 40]])
    found = VideoDetections(
        video=video,
        frame_index=np.array([1, 1]),
        boxes_xyxy=boxes,
        scores=np.array([0.6, 0.5]),
        labels=np.array([1, 2]),
        frame_times_s=np.array([0.0, 0.1, 0.2]),
        score_range=(0.0, 1.0),
        floor_score=0.1,
        class_names=("cat", "dog"),
    )
    near = NeighbourTable(
        candidate=np.array([1, 1, 1]),
        offset=np.array([-1, -1, 1]),
        region=np.array([0, 1, 1]),
        ncc=np.array([0.3, 0.7, 0.2]),
        tracked_xyxy=np.zeros((3, 4)),
    )
    flags = np.zeros(3, dtype=bool)
    save_evidence(tmp_path / ("d" * 16), Evidence(found, flags, flags, CollectSettings(), near))
    return tmp_path, boxes


def test_neighbours_come_from_the_stored_evidence(stored):
    root, boxes = stored

    def mined(row, kind=Kind.HARD_NEGATIVE, label=None):
        box = tuple(boxes[row])
        return HardExample(
            "a.mp4", "d" * 64, 1, 0.1, box, label or row + 1, kind, 0.5, 1.0, "hem", 1, {"x": 1.0}
        )

    second = mined(1)
    other_class = mined(1, label=1)
    away = replace(mined(0), box_xyxy=(1.0, 2.0, 30.0, 41.0))
    found = with_neighbours([second, mined(0), other_class, away], root)
    assert found[second.example_id].evidence == {"x": 1.0, "ncc_before": 0.7, "ncc_after": 0.2}
    for one in (mined(0), other_class, away):
        assert found[one.example_id].evidence == {"x": 1.0}
    assert with_neighbours([second], None)[second.example_id] == second
    assert with_neighbours([second], root / "nothing")[second.example_id] == second
