import json
from dataclasses import replace

import numpy as np
import pytest

from hem.artifacts.evidence import load_evidence, save_evidence
from hem.artifacts.files import read_table, write_table
from hem.errors import HemError
from hem.structures import VideoDetections, VideoInfo
from hem.structures.evidence import CollectSettings, Evidence, NeighbourTable, ResponseTable


def make(n_frames=4, **more):
    found = VideoDetections(
        video=VideoInfo("a/b.mp4", digest="12" * 32, width=64, height=48, fps=5.0, n_frames=n_frames),
        frame_index=np.array([0, 2]),
        boxes_xyxy=np.array([[1.5, 2, 9, 10], [3, 3, 8, 8]]),
        scores=np.array([0.7, 139.0]),
        labels=np.array([1, 2]),
        frame_times_s=np.array([0.0, 0.2, np.nan, 0.6]),
        class_names=("cat", "dog"),
    )
    values = dict(
        detections=found,
        cut_before=np.array([False, True, False, False]),
        duplicate=np.array([False, False, False, True]),
        collected=CollectSettings(variants=("mirror", "dim"), floor_score=float("-inf")),
        neighbours=NeighbourTable([0, 1], [2, -1], [0, 1], [0.25, -0.5], [[0, 0, 7, 8], [1, 1, 6, 6]]),
        responses=ResponseTable([1, 1], [0, 1], [0.5, 0.0], [0.75, 0.0]),
        detector_digest="cd" * 32,
        detector_calls=4,
        elicit_calls=2,
    )
    return Evidence(**{**values, **more})


def test_what_is_saved_comes_back(tmp_path):
    evidence = make()
    save_evidence(tmp_path / "e", evidence)
    back = load_evidence(tmp_path / "e")
    assert back.collected == evidence.collected
    assert back.detector_digest == evidence.detector_digest
    assert (back.detector_calls, back.elicit_calls) == (4, 2)
    assert back.detections.video == evidence.detections.video
    for one, other in (
        (back, evidence),
        (back.neighbours, evidence.neighbours),
        (back.responses, evidence.responses),
        (back.detections, evidence.detections),
    ):
        for name, value in vars(other).items():
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(getattr(one, name), value)
                assert getattr(one, name).dtype == value.dtype


def test_empty_tables_come_back(tmp_path):
    save_evidence(tmp_path / "e", make(neighbours=NeighbourTable(), responses=ResponseTable()))
    back = load_evidence(tmp_path / "e")
    assert len(back.neighbours) == len(back.responses) == 0
    assert back.neighbours.tracked_xyxy.shape == (0, 4)


def test_existing_evidence_is_never_overwritten(tmp_path):
    save_evidence(tmp_path / "e", make())
    with pytest.raises(HemError, match="exists already"):
        save_evidence(tmp_path / "e", make())


def test_a_file_from_another_pass_is_refused(tmp_path):
    save_evidence(tmp_path / "e", make())
    save_evidence(tmp_path / "f", make(detector_digest="ff" * 32))
    (tmp_path / "f" / "neighbours.parquet").replace(tmp_path / "e" / "neighbours.parquet")
    with pytest.raises(HemError, match="another pass"):
        load_evidence(tmp_path / "e")


def test_a_missing_file_is_named(tmp_path):
    save_evidence(tmp_path / "e", make())
    (tmp_path / "e" / "responses.parquet").unlink()
    with pytest.raises(HemError, match=r"responses\.parquet"):
        load_evidence(tmp_path / "e")


def test_changed_settings_are_noticed(tmp_path):
    save_evidence(tmp_path / "e", make())
    path = tmp_path / "e" / "frames.parquet"
    columns, header = read_table(path, "evidence_frames")
    header["collected"]["window"] = 3
    write_table(path, "evidence_frames", columns, header=header)
    with pytest.raises(HemError, match="changed"):
        load_evidence(tmp_path / "e")


@pytest.mark.parametrize(
    "more",
    [
        {"cut_before": np.zeros(3, dtype=bool)},
        {"neighbours": NeighbourTable([2], [1], [0], [0.0], [[0, 0, 1, 1]])},
        {"neighbours": NeighbourTable([0], [-1], [0], [0.0], [[0, 0, 1, 1]])},  # before the first frame
        {"responses": ResponseTable([0], [2], [0.0], [0.0])},
    ],
)
def test_rows_outside_the_video_are_refused(more):
    with pytest.raises(HemError):
        make(**more)


def test_a_neighbour_is_never_the_frame_itself():
    with pytest.raises(HemError, match="offset"):
        NeighbourTable([0], [0], [0], [0.0], [[0, 0, 1, 1]])


@pytest.mark.parametrize(
    "change",
    [
        {"window": 0},
        {"max_gap": -1},
        {"elicit_share": 1.0},
        {"score_threshold": (0.5, 0.4)},
        {"box_margin": 0.0},
        {"match_side": 7},
    ],
)
def test_collect_settings_are_checked(change):
    with pytest.raises(HemError, match=next(iter(change))):
        CollectSettings(**change)


def test_collect_settings_survive_json():
    settings = replace(CollectSettings(), score_threshold=(float("-inf"), float("inf")), box_margin=None)
    assert CollectSettings.from_plain(json.loads(json.dumps(settings.plain()))) == settings
    with pytest.raises(HemError, match="windwo"):
        CollectSettings.from_plain({"windwo": 3})
