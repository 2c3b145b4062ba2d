import json
import math

import numpy as np
import pytest

from hem.errors import HemError
from hem.evaluation.miss_rate import (
    CALTECH,
    CITYPERSONS,
    FALSE_POSITIVES_PER_IMAGE,
    PedestrianDetections,
    PedestrianTruth,
    Setup,
    evaluate,
    read_detections,
    read_truth,
    with_aspect,
)
from hem.evaluation.protocols import run_protocol

REASONABLE = CITYPERSONS[0]
A = (0.0, 0.0, 40.0, 100.0)
B = (200.0, 0.0, 240.0, 100.0)
FAR = (500.0, 0.0, 540.0, 100.0)


def truth(*rows):
    """Rows: box, visibility, ignore."""
    boxes = np.array([row[0] for row in rows], dtype=float).reshape(-1, 4)
    return PedestrianTruth(
        boxes,
        boxes[:, 3] - boxes[:, 1],
        np.array([row[1] for row in rows], dtype=float),
        np.array([row[2] for row in rows], dtype=bool),
    )


def found(*rows):
    boxes = np.array([row[0] for row in rows], dtype=float).reshape(-1, 4)
    return PedestrianDetections(
        boxes, boxes[:, 3] - boxes[:, 1], np.array([row[1] for row in rows], dtype=float)
    )


def average(detections, pedestrians, setup=REASONABLE):
    return evaluate({1: detections}, {1: pedestrians}, setup).log_average


def alarms(detections, pedestrians, setup=REASONABLE):
    """False positives in one image when everything is admitted."""
    return evaluate({1: detections}, {1: pedestrians}, setup).false_positives_per_image[-1]


def test_perfect_and_empty():
    assert average(found((A, 0.9), (B, 0.8)), truth((A, 1, 0), (B, 1, 0))) == 0.0
    assert average(found(), truth((A, 1, 0))) == 1.0
    assert average(found((A, 0.9)), truth()) is None
    assert evaluate({}, {1: truth((A, 1, 0))}, REASONABLE).log_average == 1.0


def test_hand_worked_average():
    # One image: a hit, a false alarm, a hit. Below one false positive a miss rate of 1/2, at 1.0 zero
    # misses of ... a third pedestrian that is never found keeps it above 0.
    pedestrians = truth((A, 1, 0), (B, 1, 0), ((800, 0, 840, 100), 1, 0))
    result = evaluate({1: found((A, 0.9), (FAR, 0.8), (B, 0.7))}, {1: pedestrians}, REASONABLE)
    assert result.miss_rate.tolist() == pytest.approx([2 / 3, 2 / 3, 1 / 3])
    assert result.false_positives_per_image.tolist() == [0, 1, 1]
    expected = math.exp((8 * math.log(2 / 3) + math.log(1 / 3)) / 9)
    assert result.log_average == pytest.approx(expected)


def test_first_detection_false_means_everything_missed_before():
    result = average(found((FAR, 0.9), (A, 0.8)), truth((A, 1, 0), (B, 1, 0)))
    assert result == pytest.approx(math.exp(math.log(0.5) / 9))  # 1 at eight points, 1/2 at the last


@pytest.mark.parametrize(
    ("pedestrian", "counts"),
    [
        (((0, 0, 20, 50), 1, 0), 1),
        (((0, 0, 20, 49.9), 1, 0), 0),
        ((A, 0.65, 0), 1),
        ((A, 0.649, 0), 0),
        ((A, 1, 1), 0),
    ],
)
def test_who_counts(pedestrian, counts):
    result = evaluate({}, {1: truth(pedestrian)}, REASONABLE)
    assert result.pedestrians == counts


def test_detections_on_those_left_out_do_not_hurt():
    pedestrians = truth((A, 1, 0), (B, 0.1, 0))
    # Half of the detection inside the ignored one: left out; less than half: false.
    half, less = (180.0, 0.0, 220.0, 100.0), (179.0, 0.0, 219.0, 100.0)
    assert alarms(found((half, 0.9), (half, 0.9), (A, 0.8)), pedestrians) == 0
    assert alarms(found((less, 0.9), (A, 0.8)), pedestrians) == 1


def test_detections_of_unfit_height_are_left_out():
    fits, small = (500.0, 0.0, 520.0, 40.0), (500.0, 0.0, 520.0, 39.9)
    assert alarms(found((small, 0.9), (A, 0.8)), truth((A, 1, 0))) == 0
    assert alarms(found((fits, 0.9), (A, 0.8)), truth((A, 1, 0))) == 1
    limited = Setup("x", (50, 75), (0, 2))
    person = ((0, 0, 20, 60), 1, 0)
    tall, fitting = (500.0, 0.0, 520.0, 93.75), (500.0, 0.0, 520.0, 93.7)
    assert alarms(found((tall, 0.9), ((0, 0, 20, 60), 0.8)), truth(person), limited) == 0
    assert alarms(found((fitting, 0.9), ((0, 0, 20, 60), 0.8)), truth(person), limited) == 1


def test_one_pedestrian_is_found_once_and_iou_half_is_enough():
    doubles = evaluate({1: found((A, 0.9), (A, 0.8))}, {1: truth((A, 1, 0))}, REASONABLE)
    assert doubles.false_positives_per_image.tolist() == [0, 1]
    assert average(found(((0, 0, 20, 100), 0.9)), truth((A, 1, 0))) == 0.0
    assert average(found(((0, 0, 19.9, 100), 0.9)), truth((A, 1, 0))) == 1.0


def test_caltech_gives_every_box_one_aspect():
    assert with_aspect(np.array([[0.0, 0, 10, 100]]), 0.41).tolist() == [[-15.5, 0, 25.5, 100]]
    narrow = found(((15.0, 0.0, 25.0, 100.0), 0.9))
    assert average(narrow, truth((A, 1, 0))) == 1.0
    # 1e-10 at every point instead of 0.
    assert average(narrow, truth((A, 1, 0)), CALTECH[0]) == pytest.approx(1e-10)
    near = {setup.name: setup for setup in CALTECH}["near"]
    assert evaluate({}, {1: truth((A, 0.99, 0), (A, 1.0, 0))}, near).pedestrians == 1


def test_reference_points():
    assert np.allclose(FALSE_POSITIVES_PER_IMAGE, np.logspace(-2, 0, 9), rtol=2e-3)


def test_unknown_image():
    with pytest.raises(HemError, match="image 7"):
        evaluate({7: found((A, 1))}, {1: truth()}, REASONABLE)


def files(tmp_path, truth_document, results):
    (tmp_path / "gt.json").write_text(json.dumps(truth_document))
    (tmp_path / "dt.json").write_text(json.dumps(results))
    return tmp_path / "dt.json", tmp_path / "gt.json"


PERSON = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 40, 100], "ignore": 0, "height": 100,
          "vis_ratio": 1, "iscrowd": 0}  # fmt: skip
RESULT = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 40, 100], "score": 0.9}


def test_files(tmp_path):
    document = {"images": [{"id": 1}], "annotations": [PERSON]}
    result = run_protocol("miss_rate", *files(tmp_path, document, [RESULT]))
    assert result.figures["reasonable"] == 0.0 and result.figures["reasonable_small"] is None
    assert result.options == {"setups": "citypersons"}
    assert run_protocol("miss_rate", *files(tmp_path, document, [])).figures["all"] == 1.0
    paths = files(tmp_path, document, [RESULT])
    assert set(run_protocol("miss_rate", *paths, miss_rate_setups="caltech").curves) == {
        "reasonable", "all", "near", "medium",
    }  # fmt: skip
    with pytest.raises(HemError, match="miss_rate_setups='x'"):
        run_protocol("miss_rate", *paths, miss_rate_setups="x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox": [0, 0, 40]}, r"annotations\[0\]: bbox must be"),
        ({"bbox": [0, 0, -1, 5]}, "negative side"),
        ({"bbox": [0, 0, 5, -1]}, "negative side"),
        ({"bbox": [0, 0, float("nan"), 5]}, "finite number"),
        ({"bbox": "abcd"}, "bbox must be"),
        ({"image_id": 9}, "image 9 is not among"),
        ({"image_id": None}, "image_id must be a whole number"),
        ({"height": "tall"}, "height must be a finite number"),
        ({"vis_ratio": 1e300}, "vis_ratio must be"),
    ],
)
def test_damaged_truth(tmp_path, change, message):
    _, path = files(tmp_path, {"images": [{"id": 1}], "annotations": [PERSON | change]}, [])
    with pytest.raises(HemError, match=message):
        read_truth(path)


def test_other_categories_are_left_out_but_not_all_of_them(tmp_path):
    other = {"category_id": 2}
    truth = {"images": [{"id": 1}], "annotations": [PERSON, PERSON | other | {"id": 2}]}
    found = [RESULT, RESULT | other | {"score": 0.95}]
    assert run_protocol("miss_rate", *files(tmp_path, truth, found)).figures["reasonable"] == 0.0
    results, path = files(tmp_path, truth | {"annotations": truth["annotations"][1:]}, found[1:])
    with pytest.raises(HemError, match=r"gt\.json: no annotation has category_id 1"):
        read_truth(path)
    with pytest.raises(HemError, match=r"dt\.json: no result has category_id 1"):
        read_detections(results)
    assert len(read_truth(path, category=2)) == len(read_detections(results, category=2)) == 1


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000, b"null", b'{"images": 3}']
)
def test_not_the_right_json(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(HemError, match=r"x\.json"):
        read_truth(path)
    with pytest.raises(HemError, match=r"x\.json"):
        read_detections(path)


def test_published_figures(shared_protocols):
    folder = shared_protocols / "citypersons"
    figures = run_protocol("miss_rate", folder / "synthetic_dt.json", folder / "val_gt.json").figures
    assert round(100 * figures["reasonable"], 2) == 57.99
    assert round(100 * figures["reasonable_small"], 2) == 31.38
    assert round(100 * figures["reasonable_heavy"], 2) == 55.25
    assert round(100 * figures["all"], 2) == 59.67


def test_of_equal_overlaps_the_later_pedestrian_is_taken():
    first, later = (0.0, 0.0, 40.0, 100.0), (20.0, 0.0, 60.0, 100.0)
    both = truth((first, 1, 0), (later, 1, 0))
    between, only_first, only_later = (
        (x, 0.0, x + 40.0, 100.0) for x in (10.0, -5.0, 25.0)
    )  # IoU 0.6 with either; 35/45 with one and below a half with the other
    result = evaluate({1: found((between, 0.9), (only_first, 0.8))}, {1: both}, REASONABLE)
    assert result.miss_rate.tolist() == [0.5, 0.0] and result.false_positives_per_image.tolist() == [0, 0]
    result = evaluate({1: found((between, 0.9), (only_later, 0.8))}, {1: both}, REASONABLE)
    assert result.miss_rate.tolist() == [0.5, 0.5] and result.false_positives_per_image.tolist() == [0, 1]
