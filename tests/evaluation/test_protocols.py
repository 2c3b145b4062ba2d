import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from hem.artifacts import save_detections, save_examples, write_table
from hem.errors import HemError
from hem.evaluation.protocols import SOURCES, run_protocol
from hem.structures import HardExample, Kind

BOX = [0.0, 0.0, 40.0, 40.0]
A = (0.0, 0.0, 10.0, 10.0)
C = (0.0, 100.0, 10.0, 110.0)


def coco_files(tmp_path, truth=None, results=None):
    truth = truth or {
        "images": [{"id": 7}, {"id": 0}],
        "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}],
        "annotations": [
            {"id": 0, "image_id": 0, "category_id": 18, "bbox": BOX, "area": 1600, "iscrowd": 0},
            {"id": 0, "image_id": 7, "category_id": 18, "bbox": [100, 0, 50, 50], "iscrowd": 1},
        ],
    }
    results = [{"image_id": 0, "category_id": 18, "bbox": BOX, "score": 0.5},
               {"image_id": 7, "category_id": 18, "bbox": [105, 0, 20, 20], "score": 0.9}
               ] if results is None else results  # fmt: skip
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    (tmp_path / "dt.json").write_text(json.dumps(results))
    return tmp_path / "dt.json", tmp_path / "gt.json"


def test_coco_files(tmp_path):
    result = run_protocol("coco", *coco_files(tmp_path))
    assert result.figures["AP"] == pytest.approx(1.0)  # the one in the crowd region is left out
    assert result.figures["per_class"]["car"]["AP"] is None
    assert set(result.curves) == {"dog"} and result.source == SOURCES["coco"]
    assert run_protocol("coco", *coco_files(tmp_path, results=[])).figures["AP"] == 0.0


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([{"image_id": 5, "category_id": 18, "bbox": BOX, "score": 1}], r"results\[0\]: image 5"),
        ([{"image_id": 0, "category_id": 1, "bbox": BOX, "score": 1}], "category 1"),
        ([{"image_id": 0, "category_id": 18, "bbox": BOX}], "score must be"),
        ([{"image_id": 0, "category_id": 18, "bbox": BOX, "score": float("nan")}], "score must be"),
        (["x"], "must be an object"),
        ({"a": 1}, "results must be a list"),
    ],
)
def test_damaged_coco_results(tmp_path, results, message):
    with pytest.raises(HemError, match=message):
        run_protocol("coco", *coco_files(tmp_path, results=results))


def test_unknown_protocol_and_absent_files(tmp_path):
    with pytest.raises(HemError, match="protocol 'x' is unknown; there are coco"):
        run_protocol("x", tmp_path, tmp_path)
    with pytest.raises(HemError, match=r"predictions=.*nowhere is not there"):
        run_protocol("coco", tmp_path / "nowhere", tmp_path)
    with pytest.raises(HemError, match="cannot be read"):
        run_protocol("coco", tmp_path, tmp_path)


@pytest.fixture
def video_folder(tmp_path, make_detections):
    found = make_detections(
        [(k, A, 1, 0.9) for k in range(6)] + [(6, C, 1, 0.95), (7, C, 1, 0.3)], 20, "set/a.mp4"
    )
    save_detections(tmp_path / "pred" / "a.parquet", found)
    (tmp_path / "gt" / "set").mkdir(parents=True)
    return tmp_path / "pred", tmp_path / "gt"


def mot(rows):
    return "".join(f"{frame},1,0,0,10,10,{conf},-1,-1,-1\n" for frame, conf in rows)


def test_video_from_mot_text(video_folder):
    predictions, truth = video_folder
    (truth / "set" / "gt.txt").write_text(mot([(k, 1) for k in range(1, 9)]))
    figures = run_protocol("video", predictions, truth).figures
    assert figures["videos"] == 1 and figures["frames"] == 20
    assert figures["minutes"] == pytest.approx(2 / 60)
    assert figures["threshold_at_best_f1"] == 0.9
    assert figures["recall_at_best_f1"] == pytest.approx(6 / 8)
    assert figures["false_alarms_per_minute_at_recall_0.7"] == pytest.approx(30)
    assert figures["false_alarms_per_frame_at_recall_0.5"] == pytest.approx(1 / 20)
    assert figures["false_alarms_per_minute_at_recall_0.8"] is None
    assert figures["flickers_per_minute_at_best_f1"] == pytest.approx(30)
    assert figures["false_share_of_detections_at_best_f1"] == pytest.approx(1 / 7)
    assert "purity" not in figures


def test_video_from_own_truth_with_purity(video_folder, make_truth):
    predictions, truth = video_folder
    made = make_truth([(k, A, 1) for k in range(8)], 20)
    columns = {name: getattr(made, name) for name in
               ("frame_index", "boxes_xyxy", "labels", "ignore", "object_id")}  # fmt: skip
    header = {"video_id": "set/a.mp4", "class_names": ["x"], "n_frames": 20, "unlabelled_frames": [19]}
    write_table(truth / "set" / "a.mp4.parquet", "video_truth", columns, header=header)
    example = HardExample("set/a.mp4", "", 6, 0.6, C, 1, Kind.HARD_NEGATIVE, 0.95, 1.0, "r")
    save_examples(predictions / "hard_examples.parquet", [example], class_names=("x",))
    on_object = HardExample("set/a.mp4", "", 6, 0.6, A, 1, Kind.HARD_NEGATIVE, 0.95, 1.0, "r")
    kept = predictions / "replay" / "round_001" / "hard_examples.parquet"  # of an earlier call, say
    save_examples(kept, [on_object], class_names=("x",))
    figures = run_protocol("video", predictions, truth).figures
    assert figures["frames"] == 19
    assert figures["purity"]["hard_negative"]["value"] == 1.0
    single = run_protocol("video", predictions / "a.parquet", truth / "set" / "a.mp4.parquet").figures
    assert single["frames"] == 19 and "purity" not in single


def test_video_by_class(tmp_path, make_detections, make_truth):
    rows = [(k, A, 1, 0.9) for k in range(6)] + [(k, C, 2, 0.8) for k in range(4)]
    found = make_detections(rows, 10, "a.mp4", class_names=("face", "car"))
    save_detections(tmp_path / "pred" / "a.parquet", found)
    made = make_truth([(k, A, 1) for k in range(8)], 10)
    columns = {name: getattr(made, name) for name in
               ("frame_index", "boxes_xyxy", "labels", "ignore", "object_id")}  # fmt: skip
    header = {"video_id": "a.mp4", "class_names": ["face", "car"], "n_frames": 10, "unlabelled_frames": []}
    write_table(tmp_path / "gt" / "a.mp4.parquet", "video_truth", columns, header=header)
    result = run_protocol("video", tmp_path / "pred", tmp_path / "gt")
    per_class = result.figures["per_class"]
    assert per_class["face"]["recall_at_best_f1"] == pytest.approx(6 / 8)
    assert per_class["face"]["false_alarms_per_frame_at_recall_0.5"] == 0
    assert per_class["car"]["best_f1"] is None  # no car is there to be found
    assert per_class["car"]["false_alarms_per_frame_at_recall_0.5"] is None
    assert set(result.curves) == {"recall", "recall of face", "recall of car"}


def test_video_without_truth_or_detections(video_folder, tmp_path):
    predictions, truth = video_folder
    with pytest.raises(HemError, match="holds no truth for any of"):
        run_protocol("video", predictions, truth)
    with pytest.raises(HemError, match="holds no detections"):
        run_protocol("video", truth, truth)
    (truth / "set" / "gt.txt").write_text(mot([(21, 1)]))
    with pytest.raises(HemError, match="belong to different videos"):
        run_protocol("video", predictions, truth)
    (truth / "set" / "gt.txt").write_text("1,1,0,0,10\n")
    with pytest.raises(HemError, match=r"gt\.txt line 1"):
        run_protocol("video", predictions, truth)


def test_video_where_nothing_is_found(video_folder):
    predictions, truth = video_folder
    (truth / "set" / "gt.txt").write_text(mot([(1, 0), (20, 1)]))
    figures = run_protocol("video", predictions, truth).figures
    assert figures["best_f1"] is None and figures["flickers_per_minute_at_best_f1"] is None
    assert figures["false_alarms_per_minute_at_recall_0.5"] is None


LINES = st.lists(st.text("0123456789.-eninfa/ ,\n\x00é", max_size=30), max_size=8).map("\n".join)


@pytest.mark.parametrize("name", ["coco", "wider_face", "fddb", "miss_rate", "video"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(st.binary(max_size=200), LINES.map(str.encode)))
def test_noise_ends_in_a_named_error_or_a_figure(name, content, tmp_path_factory):
    folder = tmp_path_factory.mktemp("noise")
    places = {
        "wider_face": ["pred/e/a.txt", *(f"gt/wider_{k}_val.mat" for k in ("easy", "medium", "hard"))],
        "fddb": ["pred/fold-01-out.txt", "gt/FDDB-fold-01-ellipseList.txt"],
        "video": ["pred/a.parquet", "gt/gt.txt"],
    }.get(name, ["pred", "gt"])
    for place in places:
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    try:
        figures = run_protocol(name, folder / "pred", folder / "gt").figures
    except HemError as error:
        assert str(error)
    else:
        assert all(
            value is None or np.isfinite(value) for value in figures.values() if not isinstance(value, dict)
        )


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "conf" / "protocol").glob("*.yaml")))
def test_every_config_names_its_protocol(path, tmp_path):
    config = OmegaConf.load(path)
    assert config.name == path.stem and config.name in SOURCES
    assert config.source == SOURCES[config.name] and SOURCES[config.name] in path.read_text()
    told = ("source", "predictions_are", "ground_truth_is", "from_a_checkpoint")
    assert all(config[key] for key in told)
    of_a_checkpoint = "max_detections"  # what a detector is asked for; files are scored whole
    options = {key: value for key, value in config.items() if key not in (*told, of_a_checkpoint)}
    with pytest.raises(HemError, match="is not there"):  # every option is one that run_protocol takes
        run_protocol(predictions=tmp_path / "x", ground_truth=tmp_path, **options)
