"""Thresholds that nothing reaches, floors, large labels, and what else lies at the edge of what is asked."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from hem import settings as shipped
from hem.api import mine_evidence, mine_videos
from hem.artifacts.evidence import load_evidence, save_evidence
from hem.artifacts.examples import MOST_CLASSES, names_up_to
from hem.errors import HemError
from hem.given import file_for
from hem.mining.collect import collect_evidence
from hem.mining.matching import BoxTemplate
from hem.mining.presets import Elicited, Paper
from hem.mining.run import query
from hem.mining.score_scale import ScoreScale
from hem.mining.sources import read_coco_results
from hem.mining.thresholds import ElicitedThresholds, HemThresholds, TemporalThresholds
from hem.structures import Detections, Kind, VideoDetections, VideoInfo
from hem.structures.evidence import CollectSettings, Evidence, ResponseTable

INF = float("inf")
PAPER_KEPT = CollectSettings(floor_score=-INF, search_margin=100.0, paper_score_threshold=(0.8, 0.8))


def found_in(rows, n_frames=30, **more):
    """rows: (frame, box, score, label)."""
    return VideoDetections(
        VideoInfo("v.mp4", digest="ab" * 32, width=400, height=300, fps=10.0),
        np.array([row[0] for row in rows]),
        np.array([row[1] for row in rows], dtype=np.float64).reshape(-1, 4),
        np.array([row[2] for row in rows]),
        np.array([row[3] for row in rows]),
        np.arange(n_frames) / 10.0,
        **more,
    )


def of_detector(make_clip, n_frames):
    clip = make_clip(1, n_frames=n_frames)
    boxes = Detections([[10.0, 10, 50, 50], [60.0, 60, 100, 100]], [0.9, 0.5], [1, 1])
    settings = shipped.collect(variants=[])
    return collect_evidence(clip.batches(), None, lambda frames: [boxes] * len(frames), settings)


@pytest.mark.parametrize("rule", ["hem", "temporal"])
@pytest.mark.parametrize("label_threshold", [0.94, 1.0])
@pytest.mark.parametrize("n_frames", [1, 2, 20])
def test_a_threshold_that_nothing_reaches_is_answered(make_clip, rule, label_threshold, n_frames):
    """Of one frame less than one detection is a label at 0.94; at 1 none is, in videos of any length."""
    evidence, preset = of_detector(make_clip, n_frames), shipped.preset(rule, label_threshold=label_threshold)
    labels = [example for example in preset.mine([evidence]) if example.kind is Kind.PSEUDO_LABEL]
    assert bool(labels) is (n_frames == 20 and label_threshold < 1)


@pytest.mark.parametrize("rule", ["hem", "temporal"])
def test_everything_on_a_calibrated_scale_is_what_was_kept(make_clip, rule):
    evidence = of_detector(make_clip, 20)
    scale = ScoreScale.calibrated(np.linspace(0, 1, 200), np.linspace(0, 1, 200) > 0.3, min_count=20)
    settings = {"score_threshold": 0.6, "neighbour_threshold": 0.3, "label_threshold": 0.9}
    asked = shipped.preset(rule, score_scale="calibrated", ignore_threshold=0.0, **settings)
    scores = {name: scale.threshold(value) for name, value in settings.items()}
    raw = shipped.preset(rule, score_scale="raw", ignore_threshold=0.1, **scores)
    mined = list(asked.mine([evidence], calibrated=scale))
    assert mined == list(raw.mine([evidence])) and mined


def test_more_answers_than_were_collected_are_refused_by_hem_too():
    found = found_in([(t, (60, 60, 100, 100), 0.9, 1) for t in range(30)])
    answers = ResponseTable([5], [0], [0.1], [0.5])
    evidence = Evidence(
        found, np.zeros(30), np.zeros(30), CollectSettings(variants=("a",)), responses=answers
    )
    for wanted, allowed in ((1, True), (2, False)):
        limits = HemThresholds(
            TemporalThresholds(0.5, 0.2), ElicitedThresholds(0.5, 0.2, min_variants=wanted)
        )
        if allowed:
            assert len(query(evidence, "hem", limits))
        else:
            with pytest.raises(HemError, match="min_variants"):
                query(evidence, "hem", limits)


@pytest.mark.parametrize("name", ["neighbour_threshold", "ignore_threshold"])
def test_detections_that_came_with_a_floor_are_not_asked_below_it(name):
    found = found_in([(t, (60, 60, 100, 100), 0.9, 1) for t in range(30)], floor_score=0.3)
    evidence = Evidence(
        found, np.zeros(30), np.zeros(30), CollectSettings(floor_score=-INF, neighbour_threshold=(0, 1))
    )
    limits = TemporalThresholds(0.5, 0.35, ignore_threshold=0.3)
    assert len(query(evidence, "temporal", limits))
    with pytest.raises(HemError, match=rf"{name} is 0.29, but the evidence was collected for 0.3"):
        query(evidence, "temporal", replace(limits, **{"ignore_threshold": 0.29, name: 0.29}))


def grey(n_frames, seed=0):
    rng = np.random.default_rng(seed)
    picture = cv2.resize(rng.integers(0, 256, (30, 40), dtype=np.uint8), (400, 300))
    return [
        np.clip(picture.astype(int) + rng.integers(-4, 5, picture.shape), 0, 255).astype(np.uint8)
        for _ in range(n_frames)
    ]


def test_labels_may_be_large(grey_batches):
    box = (100, 100, 160, 160)
    found = found_in([(5, box, 0.9, 1), (20, box, 0.9, 2_000_000_000)])
    evidence = collect_evidence(grey_batches(found, grey(30)), found, settings=PAPER_KEPT)
    assert [example.frame_index for example in Paper().mine([evidence])] == [5, 20]


def test_classes_are_named_as_far_as_labels_go(tmp_path):
    assert names_up_to(("person",), 3) == ("person", "class 2", "class 3")
    assert names_up_to(("a", "b"), 1) == ("a", "b")
    with pytest.raises(HemError, match=f"above {MOST_CLASSES}"):
        names_up_to((), MOST_CLASSES + 1)
    results = tmp_path / "found.json"
    entry = {"image_id": 0, "category_id": MOST_CLASSES + 1, "bbox": [0, 0, 9, 9], "score": 1.0}
    results.write_text(json.dumps([entry]))
    with pytest.raises(HemError, match=rf"entry 0: category_id must be a whole number in 1..{MOST_CLASSES}"):
        read_coco_results(results, VideoInfo("v.mp4"))


@pytest.fixture
def kept(tmp_path, grey_batches):
    found = found_in([(5, (100, 100, 160, 160), 0.9, 3)], class_names=("person",))
    evidence = collect_evidence(
        grey_batches(found, grey(30)), found, settings=PAPER_KEPT, detector_digest="one"
    )
    save_evidence(tmp_path / "evidence" / "a", evidence)
    return tmp_path


def test_every_annotation_has_its_category_and_infinite_thresholds_are_told(kept):
    mine_evidence(kept, Paper(max_score=INF), output_dir=kept)
    written = json.loads((kept / "hard_examples.json").read_text())
    categories = {one["id"] for one in written["categories"]}
    assert {one["category_id"] for one in written["annotations"]} == {3} <= categories
    assert json.loads((kept / "mining.json").read_text())["thresholds"]["max_score"] == "inf"


def test_detections_of_another_pass_are_refused(kept, grey_batches):
    found = found_in([(9, (200, 100, 260, 160), 0.9, 1)])
    other = collect_evidence(grey_batches(found, grey(30)), found, settings=PAPER_KEPT, detector_digest="two")
    save_evidence(kept / "other", other)
    shutil.copy(kept / "other" / "detections.parquet", kept / "evidence" / "a" / "detections.parquet")
    with pytest.raises(HemError, match=r"detections\.parquet comes from another pass"):
        load_evidence(kept / "evidence" / "a")


def test_given_detections_cannot_be_asked_again(tmp_path):
    with pytest.raises(HemError, match="mining=elicited asks a detector"):
        mine_videos([], Elicited(), detections=tmp_path, output_dir=tmp_path / "out")


def test_a_file_of_detections_belongs_to_one_video(tmp_path):
    one, other = VideoInfo("a.mp4"), VideoInfo("a.avi")
    (tmp_path / "a.txt").write_text("")
    assert file_for(tmp_path, one, [one]) == tmp_path / "a.txt"
    with pytest.raises(HemError, match=r"may belong to a\.mp4 or to a\.avi: name it a\.mp4\.txt"):
        file_for(tmp_path, one, [one, other])
    for name in ("a.mp4.txt", "a.avi.txt"):
        (tmp_path / name).write_text("")
    assert [file_for(tmp_path, video, [one, other]).name for video in (one, other)] == [
        "a.mp4.txt",
        "a.avi.txt",
    ]
    with pytest.raises(HemError, match=r"no detections of b\.mp4 in .*; looked for b\.txt"):
        file_for(Path(tmp_path), VideoInfo("b.mp4"), [one])


@pytest.mark.parametrize(
    "box", [(20, 100, 380, 108), (20, 100, 380, 140), (100, 20, 106, 280), (90, 90, 130, 200)]
)
def test_a_picture_is_found_where_it_is_however_long_and_thin(box):
    picture = cv2.GaussianBlur(grey(1)[0], (0, 0), 12)  # what is left of it when 15 pixels become one
    ncc, place = BoxTemplate(picture, np.array(box, dtype=np.float64), 0.5, 24).find(picture)
    assert ncc > 0.8
    np.testing.assert_allclose(place, box, atol=15)  # less than a pixel of the shrunk picture


def test_a_search_without_bounds_is_one_of_the_whole_frame(grey_batches):
    found = found_in([(5, (100, 100, 160, 160), 0.9, 1), (6, (300, 200, 360, 260), 0.9, 1)])
    pictures, settings = grey(30), replace(PAPER_KEPT, search_margin=INF)
    evidence = collect_evidence(grey_batches(found, pictures), found, settings=settings)
    wide = collect_evidence(
        grey_batches(found, pictures), found, settings=replace(settings, search_margin=1e4)
    )
    one, other = Paper(search_margin=INF).mine([evidence]), Paper(search_margin=1e4).mine([wide])
    assert [example.frame_index for example in one] == [example.frame_index for example in other]
    assert len(one)
