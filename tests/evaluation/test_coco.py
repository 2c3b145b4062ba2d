import contextlib
import io

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hem.errors import HemError
from hem.evaluation.coco import coco_figures, video_coco_figures
from hem.structures import Detections, Target

BOX = [10.0, 10.0, 60.0, 60.0]
FAR = [200.0, 200.0, 260.0, 260.0]


def found(boxes, scores, labels=None):
    labels = [1] * len(boxes) if labels is None else labels
    return Detections(torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores), torch.tensor(labels))


def target(boxes, labels=None, ignore=()):
    labels = [1] * len(boxes) if labels is None else labels
    return Target(
        torch.tensor(boxes).reshape(-1, 4),
        torch.tensor(labels),
        ignore_xyxy=torch.tensor(list(ignore)).reshape(-1, 4),
    )


def test_perfect_predictions_score_one(capsys):
    figures = coco_figures([found([BOX, FAR], [0.9, 0.8])], [target([BOX, FAR])], ("face",))
    assert figures["AP"] == figures["AP50"] == figures["AP75"] == figures["AR"] == pytest.approx(1.0)
    assert figures["per_class"] == {"face": {"AP": 1.0, "AP50": 1.0, "AR": 1.0}}
    assert capsys.readouterr().out == ""


def test_one_true_then_one_false_of_two_objects():
    # Recall stops at 1/2 with precision 1: 51 of the 101 recall steps have precision 1.
    figures = coco_figures([found([BOX, [0, 300, 9, 309]], [0.9, 0.8])], [target([BOX, FAR])], ("a",))
    assert figures["AP50"] == pytest.approx(51 / 101)
    assert figures["AR"] == pytest.approx(0.5)


def test_no_detections_is_a_measured_zero_and_no_objects_is_none():
    nothing = Detections.empty()
    assert coco_figures([nothing], [target([BOX])], ("a",))["AP"] == 0.0
    figures = coco_figures([found([BOX], [0.9])], [target([])], ("a",))
    assert figures["AP"] is None and figures["AP50"] is None and figures["AR"] is None
    assert figures["per_class"]["a"] == {"AP": None, "AP50": None, "AR": None}
    assert coco_figures([], [], ("a",))["AP"] is None
    assert coco_figures([nothing], [target([])], ("a",))["AP_small"] is None


def test_a_class_without_objects_does_not_pull_the_mean_down():
    figures = coco_figures([found([BOX, FAR], [0.9, 0.8], [1, 2])], [target([BOX], [1])], ("a", "b"))
    assert figures["AP"] == pytest.approx(1.0)
    assert figures["per_class"]["b"]["AP"] is None


def test_ignore_region_hides_every_class():
    inside = [205.0, 205.0, 250.0, 250.0]
    detections = [found([inside, inside, BOX], [0.99, 0.98, 0.5], [1, 2, 1])]
    hidden = coco_figures(detections, [target([BOX], ignore=[FAR])], ("a", "b"))
    shown = coco_figures(detections, [target([BOX])], ("a", "b"))
    assert hidden["per_class"]["a"]["AP"] == pytest.approx(1.0)
    assert shown["per_class"]["a"]["AP"] == pytest.approx(0.5)


def test_lengths_and_labels_are_checked():
    with pytest.raises(HemError, match="1 images have detections but 2"):
        coco_figures([Detections.empty()], [target([]), target([])], ("a",))
    with pytest.raises(HemError, match="label 2"):
        coco_figures([found([BOX], [0.5], [2])], [target([])], ("a",))


def test_same_numbers_as_pycocotools_from_files():
    rng = np.random.default_rng(3)
    detections, targets, gt, dt = [], [], [], []
    for image in range(1, 13):
        corners = rng.uniform(0, 200, (4, 2))
        boxes = np.c_[corners, corners + rng.uniform(10, 120, (4, 2))].astype(np.float32).astype(float)
        labels = rng.integers(1, 4, 4)
        noisy = boxes + rng.normal(0, 6, boxes.shape)
        noisy[:, 2:] = np.maximum(noisy[:, 2:], noisy[:, :2] + 1)
        scores = rng.uniform(0, 1, 4).round(2)
        targets.append(target(boxes[:3].tolist(), labels[:3].tolist(), boxes[3:].tolist()))
        detections.append(found(noisy, scores, labels.tolist()))
        for k, (box, label) in enumerate(zip(boxes, labels, strict=True)):
            for category in (1, 2, 3) if k == 3 else (int(label),):
                side = (box[2:] - box[:2]).tolist()
                gt.append(
                    {
                        "id": len(gt) + 1,
                        "image_id": image,
                        "category_id": category,
                        "iscrowd": int(k == 3),
                        "bbox": [*box[:2].tolist(), *side],
                        "area": side[0] * side[1],
                    }
                )
        for box, label, score in zip(noisy, labels, scores, strict=True):
            side = (box[2:] - box[:2]).tolist()
            dt.append(
                {
                    "image_id": image,
                    "category_id": int(label),
                    "score": float(score),
                    "bbox": [*box[:2].tolist(), *side],
                }
            )
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": k} for k in range(1, 13)],
            "annotations": gt,
            "categories": [{"id": k} for k in (1, 2, 3)],
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(dt), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    figures = coco_figures(detections, targets, ("a", "b", "c"))
    names = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
    expected = [value if value >= 0 else None for value in evaluation.stats]
    for name, value in [*zip(names, expected[:6], strict=True), ("AR", expected[8])]:
        assert figures[name] == (None if value is None else pytest.approx(value, abs=1e-12)), name
    assert 0.05 < figures["AP"] < 0.95


def test_video_uses_labelled_frames_only(make_detections, make_truth):
    detections = make_detections([(0, BOX, 1, 0.9), (1, FAR, 1, 0.99)], 3)
    rows = [(0, BOX, 1), (2, FAR, 1)]
    assert video_coco_figures([detections], [make_truth(rows, 3, labelled=[True, False, False])], ("a",))[
        "AP"
    ] == pytest.approx(1.0)
    assert video_coco_figures([detections], [make_truth(rows, 3)], ("a",))["AP"] < 0.5
