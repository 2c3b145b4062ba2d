import math

import numpy as np
import pytest
from PIL import Image

from hem.errors import HemError
from hem.evaluation.fddb import evaluate, overlaps, read_detections, read_ellipses
from hem.evaluation.protocols import run_protocol

CIRCLE = [20.0, 20.0, 0.0, 100.0, 100.0]
BOX = [80.0, 80.0, 40.0, 40.0]  # the circle's bounding box


def ellipses(*rows):
    return np.array(rows, dtype=float).reshape(-1, 5)


def test_area_of_a_circle_in_its_box():
    # As drawn: 41 x 41 pixels.
    assert overlaps(ellipses(CIRCLE), np.array([[80, 80, 120, 120.0]]), (450, 450))[0, 0] == pytest.approx(
        math.pi * 400 / 41**2
    )


def test_overlap_agrees_with_counting_fine_pixels():
    rng = np.random.default_rng(0)
    rounds = np.c_[rng.uniform(5, 40, (5, 2)), rng.uniform(-2, 2, 5), rng.uniform(0, 80, (5, 2))]
    corners = rng.uniform(0, 70, (6, 2))
    corners = np.c_[corners, corners + rng.uniform(3, 60, (6, 2))]
    size = (90, 75)
    step = 0.1
    x, y = np.meshgrid(np.arange(-0.5, 89.5, step) + step / 2, np.arange(-0.5, 74.5, step) + step / 2)
    result = overlaps(rounds, corners, size)
    for i, (a, b, angle, cx, cy) in enumerate(rounds):
        along = (x - cx) * math.cos(angle) + (y - cy) * math.sin(angle)
        across = (y - cy) * math.cos(angle) - (x - cx) * math.sin(angle)
        inside = (along / a) ** 2 + (across / b) ** 2 <= 1
        for j, (left, top, right, bottom) in enumerate(corners):
            box = (x >= left - 0.5) & (x < right + 0.5) & (y >= top - 0.5) & (y < bottom + 0.5)
            expected = (inside & box).sum() / (inside | box).sum()
            assert result[i, j] == pytest.approx(expected, abs=4e-3)
    assert (result > 0.2).any() and (result == 0).any()


def test_no_overlap_and_no_area():
    boxes = np.array([[300.0, 300, 320, 320], [440, 440, 600, 600], [500, 500, 600, 600]])
    outside = ellipses(CIRCLE, [5, 5, 0, 1000, 1000])
    result = overlaps(outside, boxes, (450, 450))
    assert result == pytest.approx(0, abs=1e-12)


def test_hand_worked_roc():
    faces = {"a": ellipses(CIRCLE), "b": ellipses(CIRCLE), "c": ellipses(CIRCLE)}
    far = [300.0, 300.0, 40.0, 40.0]
    found = {
        "a": np.array([[*BOX, 0.9], [*far, 0.5]]),
        "b": np.array([[*far, 0.9], [*BOX, 0.2]]),
    }
    result = evaluate(found, faces)
    one = math.pi * 400 / 41**2
    assert result.thresholds.tolist() == [0.9, 0.5, 0.2]
    assert result.false_positives.tolist() == [1, 2, 2]
    assert result.discrete.tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    assert result.continuous.tolist() == pytest.approx([one / 3, one / 3, 2 * one / 3])
    assert (result.faces, result.images, result.missing) == (3, 3, 1)
    assert result.rate_at(1) == pytest.approx(1 / 3)
    assert result.rate_at(2) == pytest.approx(2 / 3)
    assert result.rate_at(0) == 0.0
    assert result.rate_at(3) is None


def test_pairs_give_the_greatest_sum():
    # One box between two faces and one on the first: the greedy choice would lose the second face.
    faces = {"a": ellipses([20, 20, 0, 100, 100], [20, 20, 0, 112, 100])}
    both = {"a": np.array([[85.0, 80, 40, 40, 0.9], [80.0, 80, 40, 40, 0.8]])}
    result = evaluate(both, faces)
    assert result.discrete.tolist() == pytest.approx([0.5, 1.0])
    assert result.false_positives.tolist() == [0, 0]


def test_two_boxes_on_one_face_and_a_face_without_match():
    result = evaluate({"a": np.array([[*BOX, 0.9], [*BOX, 0.9]])}, {"a": ellipses(CIRCLE)})
    assert result.discrete.tolist() == [1.0] and result.false_positives.tolist() == [1]
    empty = evaluate({"a": np.array([[*BOX, 0.9]])}, {"a": ellipses()})
    assert empty.false_positives.tolist() == [1] and empty.rate_at(0) is None
    nothing = evaluate({}, {"a": ellipses(CIRCLE)})
    assert len(nothing.thresholds) == 0 and nothing.rate_at(0) is None


def test_unknown_image():
    with pytest.raises(HemError, match="no fold lists, first 'x'"):
        evaluate({"x": np.zeros((0, 5))}, {"a": ellipses()})


def folders(tmp_path, detections="img/a\n1\n80 80 40 40 0.9\n", truth="img/a\n1\n20 20 0 100 100  1\n"):
    (tmp_path / "FDDB-folds").mkdir()
    (tmp_path / "FDDB-folds" / "FDDB-fold-01-ellipseList.txt").write_text(truth)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "fold-01-out.txt").write_text(detections)
    return tmp_path / "out", tmp_path


def test_whole_folder(tmp_path):
    result = run_protocol("fddb", *folders(tmp_path))
    assert result.figures["discrete_true_positive_rate_at_last"] == 1.0
    assert result.figures["discrete_true_positive_rate_at_100"] is None
    assert result.figures["last_false_positives"] == 0 and result.figures["faces"] == 1


def test_images_beside_the_folds_give_their_size(tmp_path):
    predictions, truth = folders(tmp_path)
    (tmp_path / "originalPics" / "img").mkdir(parents=True)
    Image.new("L", (101, 450)).save(tmp_path / "originalPics" / "img" / "a.jpg")
    half = run_protocol("fddb", predictions, truth).figures["continuous_true_positive_rate_at_last"]
    # Both regions lose what lies right of column 100.
    circle = math.pi * 200 + 0.5 * 40
    assert half == pytest.approx(circle / (21 * 41), abs=1e-3)


def test_names_that_leave_the_folder_open_nothing(tmp_path):
    name, inner = "../../secret", tmp_path / "x"
    inner.mkdir()
    predictions, truth = folders(
        inner,
        detections=f"{name}\n0\n",
        truth=f"{name}\n0\n",
    )
    (inner / "originalPics").mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"not an image")  # reading it would be an error
    assert run_protocol("fddb", predictions, truth).figures["faces"] == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("img/a\n2\n1 2 3 4 0.5\n", "line 2: 2 boxes announced, 1 lines follow"),
        ("img/a\n", "has no count after it"),
        ("img/a\nmany\n", "line 2: expected a count"),
        ("img/a\n1\n1 2 3 4\n", "line 3"),
        ("img/a\n1\n1 2 3 4 5 6\n", "ellipses are not read"),
        ("img/a\n1\n1 2 nan 4 5\n", "line 3"),
        ("img/a\n1\n1 2 -3 4 5\n", "negative side"),
        ("img/a\n0\nimg/a\n0\n", "line 3: image img/a came before"),
        ("img/a\n1000000000000\n", "line 2: expected a count"),
    ],
)
def test_damaged_detections_name_the_line(tmp_path, text, message):
    file = tmp_path / "fold-01-out.txt"
    file.write_text(text)
    with pytest.raises(HemError, match=message):
        read_detections(tmp_path)
    with pytest.raises(HemError, match=message):
        read_detections(file)


def test_damaged_truth(tmp_path):
    with pytest.raises(HemError, match="holds no FDDB-fold"):
        read_ellipses(tmp_path)
    with pytest.raises(HemError, match="holds no fold"):
        read_detections(tmp_path)
    (tmp_path / "FDDB-fold-01-ellipseList.txt").write_text("a\n1\n0 20 0 100 100 1\n")
    with pytest.raises(HemError, match="half axis that is not above 0"):
        read_ellipses(tmp_path)


def test_published_detector(shared_protocols):
    folder = shared_protocols / "fddb"
    result = run_protocol("fddb", folder / "mtcnn", folder)
    assert result.figures["faces"] == 5171 and result.figures["images"] == 2845
    for kind, name in (("discrete", "MTCNNDiscROC.txt"), ("continuous", "MTCNNContROC.txt")):
        official = np.loadtxt(folder / "mtcnn" / name)
        counts, rates = result.curves[kind]
        for count in range(int(official[:, 1].max()) + 1):
            expected = official[official[:, 1] <= count, 0].max()
            assert rates[counts <= count].max() == pytest.approx(expected, abs=0.005), (kind, count)
    assert result.figures["discrete_true_positive_rate_at_last"] == pytest.approx(0.896345, abs=0.001)


def test_faces_are_drawn_as_the_program_draws_them():
    """Half axes lose their fraction (but not below 1), centres and corners go to the nearest pixel."""
    face = ellipses([20.9, 20.9, 0.0, 100.4, 99.6])
    result = evaluate({"a": np.array([[79.6, 80.4, 40.0, 39.8, 0.9]])}, {"a": face})
    assert result.continuous.tolist() == pytest.approx([math.pi * 400 / 41**2], rel=1e-9)
    # the right half: from half a pixel left of the centre at 100
    half = evaluate({"a": np.array([[100.0, 80, 20, 40, 0.9]])}, {"a": face})
    common = math.pi * 200 + 0.5 * math.sqrt(400 - 0.25) + 400 * math.asin(0.5 / 20)
    expected = common / (math.pi * 400 + 21 * 41 - common)
    assert half.continuous.tolist() == pytest.approx([expected], rel=1e-9)
    tiny = evaluate({"a": np.array([[99, 99, 2, 2, 0.9]])}, {"a": ellipses([0.4, 0.6, 0.0, 100, 100])})
    assert tiny.continuous.tolist() == pytest.approx([math.pi / 9], rel=1e-9)


@pytest.mark.parametrize(("overlap", "hits"), [(0.5, 0.0), (np.nextafter(0.5, 1), 1.0)])
def test_a_match_overlaps_by_more_than_half(monkeypatch, overlap, hits):
    monkeypatch.setattr("hem.evaluation.fddb.overlaps", lambda *_: np.array([[overlap]]))
    result = evaluate({"a": np.array([[*BOX, 0.9]])}, {"a": ellipses(CIRCLE)})
    assert result.discrete.tolist() == [hits] and result.continuous.tolist() == [overlap]
