"""What a detector's scores are worth is measured on images it never learned from, and used."""

import copy
import hashlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hem.api import mine_evidence
from hem.artifacts import load_examples
from hem.artifacts.evidence import save_evidence
from hem.config import ReplayConfig
from hem.data.held_back import hold_back
from hem.errors import HemError
from hem.mining.presets import Hem, PseudoLabels, Temporal
from hem.mining.score_scale import ScaleKind, ScoreScale
from hem.structures import Detections, LabelledImage, Target, VideoDetections, VideoInfo
from hem.structures.evidence import CollectSettings, Evidence
from hem.training import arm as arm_module
from hem.training.arm import ArmMining
from hem.training.calibration import calibrate, load_scale, save_scale
from hem.training.experiment import is_calibrated

VIDEO = VideoInfo("a.mp4", "d" * 64, "", 100, 100, 10.0, 10)
CALIBRATED = PseudoLabels(score_threshold=0.9, score_scale="calibrated")


class Stills:
    """Forty images with one object and one ignore region each."""

    class_names = ("thing",)

    def __len__(self):
        return 40

    def __getitem__(self, index):
        target = Target(
            boxes_xyxy=torch.tensor([[10.0, 10, 30, 30]]),
            labels=torch.ones(1),
            ignore_xyxy=torch.tensor([[60.0, 60, 90, 90]]),
        )
        return LabelledImage(torch.full((3, 100, 100), index, dtype=torch.uint8), target, f"{index}")

    def digest(self):
        return "stills"


class Detector:
    """Right from 0.7 on, wrong below; and very sure of something in the ignore region."""

    def detect(self, images, floor_score):
        boxes = torch.tensor([[10.0, 10, 30, 30], [40, 10, 55, 30], [62, 62, 88, 88]])
        found = []
        for image in images:
            k = int(image[0, 0, 0]) / 1000
            found.append(Detections(boxes, torch.tensor([0.7 + k, 0.3 + k, 0.99]), torch.ones(3)))
        return found


def evidence(detector="of x"):
    scores = np.tile([0.2, 0.5, 0.75, 0.8], 10)
    boxes = np.tile([[0.0, 0, 9, 9], [20, 0, 29, 9], [40, 0, 49, 9], [60, 0, 69, 9]], (10, 1))
    frames, labels = np.repeat(np.arange(10), 4), np.ones(40, dtype=np.int64)
    found = VideoDetections(VIDEO, frames, boxes, scores, labels, np.arange(10) / 10, floor_score=0.1)
    flags = np.zeros(10, dtype=np.bool_)
    return Evidence(found, flags, flags, CollectSettings(floor_score=0.1), detector_digest=detector)


def test_it_is_the_precision_outside_ignore_regions():
    scale = calibrate(Detector(), Stills(), floor_score=0.05, min_count=10)
    assert 0.69 < scale.threshold(0.9) < 0.71  # 40 right ones of 80; those ignored would lower the top
    assert scale.threshold(1.0) == scale.threshold(0.9)
    with pytest.raises(HemError, match="min_count"):
        calibrate(Detector(), Stills(), floor_score=0.05, min_count=100)


def test_a_file_keeps_it_and_says_for_which_detector(tmp_path):
    scale = calibrate(Detector(), Stills(), floor_score=0.05, min_count=10)
    save_scale(tmp_path / "c.json", scale, "of x")
    again = load_scale(tmp_path / "c.json", [evidence()])
    assert again.to_dict() == scale.to_dict()
    with pytest.raises(HemError, match="two detectors"):
        load_scale(tmp_path / "c.json", [evidence("of y")])
    save_scale(tmp_path / "raw.json", ScoreScale.raw(), "")
    with pytest.raises(HemError, match="not a calibrated one"):
        load_scale(tmp_path / "raw.json")


def test_a_precision_that_no_score_has_is_named():
    scale = calibrate(Detector(), Stills(), floor_score=0.05, min_count=80)  # one estimate: half are right
    with pytest.raises(HemError, match=r"right in 0\.9 .* at most 0\.5"):
        Temporal(score_threshold=0.9, score_scale="calibrated").mine([evidence()], calibrated=scale)


def test_of_another_detector_it_is_refused_before_there_is_evidence(tmp_path):
    save_scale(tmp_path / "c.json", calibrate(Detector(), Stills(), floor_score=0.05, min_count=10), "of x")
    assert load_scale(tmp_path / "c.json", asked="of x").kind is ScaleKind.CALIBRATED
    with pytest.raises(HemError, match="is of detector of x, but the one to ask is of y"):
        load_scale(tmp_path / "c.json", asked="of y")
    save_scale(tmp_path / "any.json", calibrate(Detector(), Stills(), floor_score=0.05, min_count=10), "")
    load_scale(tmp_path / "any.json", asked="of y")


@pytest.mark.parametrize("name", ["score_threshold", "negative_response"])
def test_an_answer_below_what_no_score_reaches_is_not_asked_for(name):
    scale = calibrate(Detector(), Stills(), floor_score=0.05, min_count=80)
    settings = {"score_threshold": 0.4, "negative_response": 0.4, "neighbour_threshold": 0.1} | {name: 0.9}
    settings["positive_response"] = 0.95  # that no score reaches either: no labels, and no mistake
    with pytest.raises(HemError, match=rf"mining\.{name}=0\.9 asks .* at most 0\.5"):
        Hem(score_scale="calibrated", **settings).mine([evidence()], calibrated=scale)


def test_mining_from_evidence_reads_settings_on_it(tmp_path):
    save_evidence(tmp_path / "kept" / "evidence" / "a", evidence())
    with pytest.raises(HemError, match="calibration=FILE"):
        mine_evidence(tmp_path / "kept", CALIBRATED, output_dir=tmp_path / "none")
    save_scale(tmp_path / "c.json", calibrate(Detector(), Stills(), floor_score=0.05, min_count=10), "of x")
    mine_evidence(
        tmp_path / "kept", CALIBRATED, output_dir=tmp_path / "mined", calibration=tmp_path / "c.json"
    )
    quantile = PseudoLabels(score_threshold=0.9, per_frame=10.0)
    mine_evidence(tmp_path / "kept", quantile, output_dir=tmp_path / "other")
    scores = [
        {e.score for e in load_examples(tmp_path / name / "hard_examples.parquet")[0]}
        for name in ("mined", "other")
    ]
    assert scores == [{0.75, 0.8}, {0.8}]  # from 0.7 on right; the best one a frame


def test_every_round_of_an_arm_gets_the_scale_of_its_own_teacher(monkeypatch, tmp_path):
    first, later = (ScoreScale.calibrated([0.1, limit], [False, True], min_count=1) for limit in (0.5, 0.9))
    asked = []

    class Preset:
        def mine(self, evidence, *, seed=0, calibrated=None):
            asked.append(calibrated)
            return []

    monkeypatch.setattr(arm_module, "write_round", lambda *given, **more: None)
    monkeypatch.setattr(ArmMining, "_collected", lambda *given: [])
    teacher = SimpleNamespace(digest=lambda: "t")
    mining = ArmMining(
        arm=SimpleNamespace(kinds=("hard_negative",), label_share=0.0),
        preset=Preset(),
        replay=ReplayConfig(),
        collect=CollectSettings(),
        videos=SimpleNamespace(videos=[], reread=None),
        shared_evidence=[],
        class_names=("thing",),
        seed=0,
        progress=None,
        calibrated=first,
        calibrate=lambda given: later if given is teacher else first,
    )
    for index in (1, 2):
        mining.mine(teacher, index, tmp_path / f"round_{index}")
    assert asked == [first, later]
    uncalibrated = copy.copy(mining)
    uncalibrated.calibrated = None
    uncalibrated.mine(teacher, 2, tmp_path / "x")
    assert asked[-1] is None


def test_what_is_held_back_is_always_the_same_and_never_trained_on():
    kept, held = hold_back(Stills(), 0.25)
    again = hold_back(Stills(), 0.25)
    assert (len(kept), len(held)) == (30, 10)
    assert sorted(kept.indices + held.indices) == list(range(40)) and kept.indices == again[0].indices
    assert held.indices != tuple(range(30, 40)) and kept.digest() not in (held.digest(), "stills")
    assert [int(held[k].image[0, 0, 0]) for k in range(10)] == list(held.indices)
    assert len(hold_back(Stills(), 0.001)[1]) == 1
    with pytest.raises(HemError, match=r"calibration\.share"):
        hold_back(held, 1.0)


class Frames(Stills):
    """Frames of videos of so many frames each, and stills that are a group of their own."""

    def __init__(self, lengths, alone=0):
        super().__init__()
        names = [name for name, length in enumerate(lengths) for _ in range(length)]
        self.groups = tuple(f"video {name}" for name in names) + tuple(f"still {k}" for k in range(alone))

    def __len__(self):
        return len(self.groups)


@pytest.mark.parametrize("share", [0.001, 0.2, 0.5, 0.9])
def test_images_that_stand_alone_are_drawn_one_by_one(share):
    """The draw that runs so far were made with."""
    wanted = min(max(round(share * 40), 1), 39)
    drawn = sorted(range(40), key=lambda k: hashlib.sha256(f"stills|{k}".encode()).digest())
    for images in (Stills(), Frames([], alone=40), Frames([1] * 40)):
        kept, held = hold_back(images, share)
        assert held.indices == tuple(sorted(drawn[:wanted]))
        assert sorted(kept.indices + held.indices) == list(range(40))


@pytest.mark.parametrize("lengths", [[4] * 10, [1, 2, 3, 4, 10, 20], [20, 20], [39, 1], [8, 8, 8, 8, 8]])
@pytest.mark.parametrize("share", [0.001, 0.2, 0.5, 0.95])
def test_frames_of_one_video_are_held_back_together(lengths, share):
    images = Frames(lengths)
    kept, held = hold_back(images, share)
    sides = [{images.groups[index] for index in side.indices} for side in (kept, held)]
    assert sides[0] and sides[1] and not sides[0] & sides[1]
    assert sorted(kept.indices + held.indices) == list(range(40))
    assert list(held.indices) == sorted(held.indices)
    assert hold_back(Frames(lengths), share)[1].indices == held.indices


def test_the_share_is_met_as_nearly_as_whole_videos_allow():
    assert len(hold_back(Frames([4] * 10), 0.2)[1]) == 8
    assert len(hold_back(Frames([4] * 10, alone=10), 0.3)[1]) in range(13, 18)
    assert len(hold_back(Frames([30, 4, 6]), 0.001)[1]) == 4  # none of them is near
    with pytest.raises(HemError, match=r"one video or scene.*score_scale"):
        hold_back(Frames([40]), 0.2)


def test_presets_that_ask_for_it_are_known():
    assert is_calibrated({"score_scale": "calibrated"})
    assert not is_calibrated({"score_scale": "quantile"}) and not is_calibrated({})
