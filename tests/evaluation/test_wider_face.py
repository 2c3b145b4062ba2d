import tarfile
import time

import numpy as np
import pytest
from scipy.io import savemat

from hem.errors import HemError
from hem.evaluation.protocols import run_protocol
from hem.evaluation.wider_face import WiderTruth, evaluate, read_prediction, read_predictions, read_truth

FACES = np.array([[0, 0, 9, 9], [100, 0, 9, 9], [200, 0, 9, 9]], dtype=float)  # 10 x 10 pixels inclusive
IMAGE = ("0--Parade", "a")


def truth(faces=FACES, easy=(0,), medium=(0, 1), hard=(0, 1, 2), image=IMAGE):
    counted = {"easy": easy, "medium": medium, "hard": hard}
    return WiderTruth(
        {image: faces}, {name: {image: np.array(rows, dtype=np.int64)} for name, rows in counted.items()}
    )


def precision_of(rows, **more):
    return evaluate({IMAGE: np.array(rows, dtype=float).reshape(-1, 5)}, truth(**more)).average_precision


def test_perfect_predictions_score_one_and_other_settings_faces_are_left_out():
    assert precision_of([[*face, score] for face, score in zip(FACES, (1, 0.5, 0), strict=True)]) == {
        "easy": pytest.approx(1.0),
        "medium": pytest.approx(1.0),
        "hard": pytest.approx(1.0),
    }


def test_hand_worked():
    # By falling score: false, face 0, face 1. Precision after each face: 1/2, 2/3.
    rows = [[500, 0, 9, 9, 1.0], [*FACES[0], 0.6], [*FACES[1], 0.0]]
    result = precision_of(rows)
    assert result["medium"] == pytest.approx(2 / 3)
    assert result["hard"] == pytest.approx(2 / 3 * 2 / 3)
    # Face 1 is outside easy: its detection is left out there.
    assert result["easy"] == pytest.approx(1 / 2)


def test_a_detection_on_a_face_outside_the_setting_is_no_proposal():
    assert precision_of([[*FACES[1], 1.0], [*FACES[0], 0.0]])["easy"] == pytest.approx(1.0)
    assert precision_of([[500, 0, 9, 9, 1.0], [*FACES[0], 0.0]])["easy"] == pytest.approx(0.5)


def test_file_order_does_not_matter():
    rows = [[*FACES[0], 1.0], [500, 0, 9, 9, 0.7], [*FACES[1], 0.5], [600, 0, 9, 9, 0.2], [*FACES[2], 0.0]]
    in_order = precision_of(rows)
    assert in_order["hard"] == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)
    for order in ([4, 3, 2, 1, 0], [1, 4, 0, 3, 2], [3, 0, 4, 1, 2]):
        assert precision_of([rows[k] for k in order]) == in_order


def test_iou_counts_both_end_pixels():
    # 10 x 10 pixels against 10 x 5: 50 / 100 = 0.5 inclusive (0.44 of exclusive extents).
    half, less = [0, 0, 9, 4, 1.0], [0, 0, 9, 3.9, 1.0]
    assert precision_of([half])["easy"] == pytest.approx(1.0)
    assert precision_of([less])["easy"] == 0.0


def test_second_detection_of_a_face_is_a_proposal_without_gain():
    rows = [[*FACES[0], 1.0], [*FACES[0], 0.9], [*FACES[1], 0.0]]
    assert precision_of(rows)["medium"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_empty_and_unmeasurable():
    image, other = IMAGE, ("0--Parade", "b")
    base = truth(easy=())
    result = evaluate({image: np.zeros((0, 5))}, base)
    assert result.average_precision == {"easy": None, "medium": 0.0, "hard": 0.0}
    with pytest.raises(HemError, match="no prediction is of an image"):
        evaluate({other: np.zeros((0, 5))}, base)
    both = WiderTruth(
        {image: FACES, other: FACES},
        {name: {image: np.arange(3), other: np.arange(3)} for name in ("easy", "medium", "hard")},
    )
    part = evaluate({image: np.c_[FACES, [1, 0.5, 0.2]]}, both)
    assert part.missing == 1 and part.images == 2
    assert part.average_precision["hard"] == pytest.approx(0.5)


def test_equal_scores_are_all_admitted():
    assert precision_of([[*face, 0.3] for face in FACES])["hard"] == pytest.approx(1.0)
    assert precision_of([[*face, -3.0] for face in FACES])["hard"] == pytest.approx(1.0)


def test_predictions_for_unknown_images_change_nothing():
    rows = {IMAGE: np.array([[*FACES[0], 0.5], [*FACES[1], 0.4]])}
    alone = evaluate(rows, truth()).average_precision
    rows["x", "y"] = np.array([[0, 0, 5, 5, 100.0]])
    assert evaluate(rows, truth()).average_precision == alone


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n2\n1 2 3 4 0.5\n", "line 2: 2 boxes announced, 1 lines follow"),
        ("a\nx\n", "line 2: expected a count"),
        ("a\n-1\n", "line 2: expected a count"),
        ("a\nnan\n", "line 2: expected a count"),
        ("a\n1\n1 2 3 4 nan\n", "line 3: expected left top width height score"),
        ("a\n1\n1 2 3 4\n", "line 3"),
        ("a\n2\n1 2 3 4 5\n1 2 inf 4 5\n", "line 4"),
        ("a\n1\n1e300 2 3 4 5\n", "line 3"),
        ("", "ends after 0 lines"),
        ("a", "ends after 1 lines"),
    ],
)
def test_damaged_prediction_files_name_the_line(text, message):
    with pytest.raises(HemError, match=message):
        read_prediction(text.encode(), "p.txt")


def test_not_text():
    with pytest.raises(HemError, match=r"p\.txt is not a text file"):
        read_prediction(b"\xff\xfe\x00", "p.txt")


def write_mat(folder, setting, files=("a",), rows=((1,),), faces=(FACES,)):
    def cells(values):
        out = np.empty((len(values), 1), dtype=object)
        for k, value in enumerate(values):
            out[k, 0] = value
        return out

    inner = [np.array(row, dtype=np.uint16).reshape(-1, 1) for row in rows]
    savemat(
        folder / f"wider_{setting}_val.mat",
        {
            "event_list": cells(["0--Parade"]),
            "file_list": cells([cells(list(files))]),
            "face_bbx_list": cells([cells(list(faces))]),
            "gt_list": cells([cells(inner)]),
        },
    )


def test_whole_folder_and_archive(tmp_path):
    ground_truth, predictions = tmp_path / "gt", tmp_path / "pred"
    (predictions / "0--Parade").mkdir(parents=True)
    ground_truth.mkdir()
    for setting, rows in (("easy", [1]), ("medium", [1, 2]), ("hard", [1, 2, 3])):
        write_mat(ground_truth, setting, rows=(rows,))
    (predictions / "0--Parade" / "a.txt").write_text("a\n2\n0 0 9 9 0.9\n100 0 9 9 0.1\n\n")
    expected = {"easy": pytest.approx(1.0), "medium": pytest.approx(1.0), "hard": pytest.approx(2 / 3)}
    result = run_protocol("wider_face", predictions, ground_truth)
    assert {name: result.figures[name] for name in expected} == expected
    assert result.curves["hard"][0].shape == (1000,) and "CVPR 2016" in result.source
    archive = tmp_path / "pred.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(predictions / "0--Parade", "./0--Parade")
    again = run_protocol("wider_face", archive, ground_truth)
    assert again.figures == result.figures


def test_each_image_has_its_own_faces(tmp_path):
    write = {"files": ("a", "b"), "rows": ((1,), (2,)), "faces": (FACES[:1], FACES[1:] + 7)}
    for setting in ("easy", "medium", "hard"):
        write_mat(tmp_path, setting, **write)
    read = read_truth(tmp_path)
    assert read.faces["0--Parade", "b"].tolist() == (FACES[1:] + 7).tolist()
    assert read.counted["hard"]["0--Parade", "b"].tolist() == [1]
    assert len(read.faces["0--Parade", "a"]) == 1


def test_damaged_inputs_are_named(tmp_path):
    with pytest.raises(HemError, match="holds no <event>"):
        read_predictions(tmp_path)
    noise = tmp_path / "x.tar"
    noise.write_bytes(bytes(range(256)) * 4)
    with pytest.raises(HemError, match="neither a folder nor a readable tar"):
        read_predictions(noise)
    with pytest.raises(HemError, match=r"wider_easy_val\.mat is not there"):
        read_truth(tmp_path)
    write_mat(tmp_path, "easy", rows=((4,),))
    with pytest.raises(HemError, match="counts a face that is not in its list"):
        read_truth(tmp_path)
    whole = (tmp_path / "wider_easy_val.mat").read_bytes()
    for damaged in (b"", whole[:200], whole[:-50], b"\x00" * 500, np.random.default_rng(0).bytes(2000)):
        (tmp_path / "wider_easy_val.mat").write_bytes(damaged)
        with pytest.raises(HemError, match="wider_easy_val"):
            read_truth(tmp_path)


def test_published_detector(shared_protocols):
    folder = shared_protocols / "wider_face"
    start = time.process_time()  # of this process: what else the machine does is not asked
    figures = run_protocol(
        "wider_face", folder / "predictions_retinaface_mobilenet025.tar.gz", folder
    ).figures
    assert time.process_time() - start < 60
    assert figures["easy"] == pytest.approx(0.8978665260, abs=1e-6)
    assert figures["medium"] == pytest.approx(0.8732664855, abs=1e-6)
    assert figures["hard"] == pytest.approx(0.7594359399, abs=1e-6)
    assert figures["images"] == 3226 and figures["images_without_predictions"] == 0
