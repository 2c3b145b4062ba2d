"""Every protocol from a checkpoint: its predictions become the protocol's own files, read as anybody's.

The detector here sees red: it finds the one red patch of a picture exactly, so every figure is known.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image, ImageDraw
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy.io import savemat

from hem.config import EvaluateConfig, check
from hem.errors import HemError
from hem.evaluate import evaluate
from hem.evaluation.protocols import SOURCES
from hem.predicting import FACES
from hem.structures import Detections
from hem.video.writer import write_video

ROOT = Path(__file__).parents[2]
SIZE = (64, 48)
BOX = (20, 10, 40, 40)


class SeesRed:
    """Stands for a trained network: one detection for each picture with red in it, and one false alarm."""

    score_range = (0.0, 1.0)
    asked: ClassVar[list[int]] = []  # pictures of each call
    limits: ClassVar[list[int]] = []  # asked for

    def __init__(self, *class_names: str) -> None:
        self.class_names = class_names

    def to(self, device: torch.device) -> "SeesRed":
        return self

    def digest(self) -> str:
        return "0" * 64

    def set_limit(self, detections: int) -> None:
        self.limits.append(detections)

    def detect(self, images, floor_score: float) -> list[Detections]:
        self.asked.append(len(images))
        return [self._one(np.asarray(image).astype(int)) for image in images]

    def _one(self, pixels: np.ndarray) -> Detections:
        rows, columns = np.nonzero((pixels[0] > 140) & (pixels[1] < 90))
        boxes, scores = [[0.0, 0.0, 5.0, 6.0]], [0.2]
        if len(rows):
            boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            scores.append(0.9)
        order = np.argsort(scores)[::-1]
        return Detections(
            np.array(boxes, float)[order], np.array(scores)[order], np.ones(len(order), np.int64)
        )


@pytest.fixture
def sees(monkeypatch: pytest.MonkeyPatch):
    def install(*class_names: str) -> None:
        monkeypatch.setattr("hem.predicting.load_checkpoint", lambda path: None)
        monkeypatch.setattr("hem.predicting.detector_from", lambda found, path: SeesRed(*class_names))

    return install


def picture(path: Path, round_one: bool = False, red: bool = True) -> Image.Image:
    image = Image.new("RGB", SIZE, (30, 60, 40))
    left, top, right, bottom = BOX
    draw = ImageDraw.Draw(image)
    if red:
        (draw.ellipse if round_one else draw.rectangle)(
            (left, top, right - 1, bottom - 1), fill=(220, 20, 20)
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=100)
    return image


def figures(tmp_path: Path, name: str, **more) -> dict:
    """Figures from a checkpoint, after seeing that its prediction files give the same once more."""
    out = tmp_path / "out"
    protocol = {"name": name, **more.pop("protocol", {})}
    settings = {"protocol": protocol, "output_dir": str(out), **more}
    evaluate(check(EvaluateConfig, {**settings, "checkpoint": str(tmp_path / "x.pt")}))
    found = json.loads((out / "figures.json").read_text())
    assert found["source"] == SOURCES[name]
    assert (out / "curve.svg").read_text().startswith("<?xml")
    predictions = next(path for path in (out / "predictions", out / "predictions.json") if path.exists())
    truth = out / "ground_truth.json"
    again = {
        "predictions": str(predictions),
        "ground_truth": str(truth if truth.exists() else more["ground_truth"]),
    }
    (result,) = evaluate(
        check(EvaluateConfig, {**settings, "output_dir": str(out / "again"), **again})
    ).values()
    assert json.loads(json.dumps(result.figures)) == found["figures"]
    return found["figures"]


def test_coco(tmp_path, sees):
    sees("dog")
    data = tmp_path / "data"
    left, top, right, bottom = BOX
    for name in ("train", "val"):
        picture(data / name / "a.png")
        picture(data / name / "b.png", red=False)
        images = [
            {"id": k, "file_name": f"{n}.png", "width": 64, "height": 48} for k, n in ((7, "a"), (3, "b"))
        ]
        boxes = [{"id": 1, "image_id": 7, "category_id": 18, "bbox": [left, top, right - left, bottom - top]}]
        document = {"images": images, "annotations": boxes, "categories": [{"id": 18, "name": "dog"}]}
        (data / f"{name}.json").write_text(json.dumps(document))
    node = {
        "_target_": "hem.data.coco_json.coco", "root": str(data), "train_annotations": "train.json",
        "train_images": "train", "test_annotations": "val.json", "test_images": "val",
    }  # fmt: skip
    found = figures(tmp_path, "coco", data=node)
    assert found["AP"] == pytest.approx(1.0)  # both false alarms score less than the dog
    assert found["per_class"]["dog"]["AP"] == pytest.approx(1.0)
    sees("cat")
    with pytest.raises(HemError, match=r"knows the classes \['cat'\], the data has \['dog'\]"):
        figures(tmp_path, "coco", data=node)


def test_coco_figures_are_those_of_the_given_file(tmp_path, sees):
    """Areas of segmentations, crowds, ids and boxes beyond the picture count as pycocotools reads them."""
    sees("dog")
    data = tmp_path / "data"
    left, top, right, bottom = BOX
    box = [left, top, right - left, bottom - top]
    images, boxes = [], []
    for k, shift in enumerate((0.0, 0.5, 3.0, 6.5)):
        picture(data / f"val/{k}.png")
        images.append({"id": 40 - k, "file_name": f"{k}.png", "width": 64, "height": 48})
        # the box's own 600 px are small; what is inside of it is said to be small, medium or large
        row = {"id": 900 - k, "image_id": 40 - k, "category_id": 18, "iscrowd": 0}
        boxes.append({**row, "bbox": [left + shift, *box[1:]], "area": (500, 2000, 2000, 20000)[k]})
    crowd = {"id": 3, "image_id": 40, "category_id": 18, "iscrowd": 1, "area": 99.5}
    boxes += [
        {**crowd, "bbox": [0, 0, 8, 8]},
        {**crowd, "id": 4, "image_id": 39, "category_id": 5, "iscrowd": 0, "bbox": [0, 0, 5, 6]},
        {**crowd, "id": 7, "image_id": 38, "iscrowd": 0, "bbox": [-1.5, -1.5, 7.5, 7.5], "area": 31},
    ]
    categories = [{"id": 18, "name": "dog"}, {"id": 5, "name": "cat"}]
    document = {"images": images, "annotations": boxes, "categories": categories}
    path = data / "val.json"
    path.write_text(json.dumps(document))
    node = {
        "_target_": "hem.data.coco_json.coco", "root": str(data), "train_annotations": "val.json",
        "train_images": "val", "test_annotations": "val.json", "test_images": "val", "classes": ["dog"],
    }  # fmt: skip
    found = figures(tmp_path, "coco", data=node)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        evaluation = COCOeval(truth, truth.loadRes(str(tmp_path / "out/predictions.json")), "bbox")
        evaluation.params.catIds = [18]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
    assert [found[name] for name in names] == pytest.approx(evaluation.stats[:6].tolist(), abs=1e-12)
    assert len({round(found[name], 6) for name in names}) >= 4 and min(evaluation.stats[:6]) >= 0
    figures(
        tmp_path, "coco", data={**node, "min_box_side": 20.5}
    )  # which the file's own boxes know nothing of
    truth = json.loads((tmp_path / "out/ground_truth.json").read_text())
    assert [one["iscrowd"] for one in truth["annotations"]] == [1] * 6


def test_wider_face(tmp_path, sees):
    sees("face")
    root, mats = tmp_path / "wider", tmp_path / "mats"
    left, top, right, bottom = BOX
    row = f"{left} {top} {right - left} {bottom - top} 0 0 0 0 0 0\n"
    (root / "wider_face_split").mkdir(parents=True)
    for split in ("train", "val"):
        picture(root / f"WIDER_{split}/images/0--Parade/0_Parade_1.jpg")
        picture(root / f"WIDER_{split}/images/1--Hand/1_Hand_2.jpg", red=False)
        text = f"0--Parade/0_Parade_1.jpg\n1\n{row}1--Hand/1_Hand_2.jpg\n0\n" + "0 " * 10 + "\n"
        (root / f"wider_face_split/wider_face_{split}_bbx_gt.txt").write_text(text)
    mats.mkdir()

    def cells(*values):
        column = np.empty((len(values), 1), dtype=object)
        for index, value in enumerate(values):
            column[index, 0] = value
        return column

    face = np.array([[left, top, right - left, bottom - top]], float)
    columns = {
        "event_list": cells("0--Parade", "1--Hand"),
        "file_list": cells(cells("0_Parade_1"), cells("1_Hand_2")),
        "face_bbx_list": cells(cells(face), cells(np.zeros((0, 4)))),
    }
    for setting in ("easy", "medium", "hard"):
        counted = cells(cells(np.array([[1]])), cells(np.zeros((0, 1))))
        savemat(mats / f"wider_{setting}_val.mat", {**columns, "gt_list": counted})
    node = {"_target_": "hem.data.wider_face.wider_face", "root": str(root)}
    found = figures(tmp_path, "wider_face", data=node, ground_truth=str(mats))
    assert found["easy"] == found["hard"] == pytest.approx(1.0)
    assert found["images"] == 2 and found["images_without_predictions"] == 0
    text = (tmp_path / "out/predictions/0--Parade/0_Parade_1.txt").read_text().splitlines()
    assert text[:2] == ["0_Parade_1", "2"] and len(text) == 4
    # more than the fullest image has faces, where detectors are built for 100 detections
    shipped = OmegaConf.load(ROOT / "conf/protocol/wider_face.yaml")
    assert SeesRed.limits[-1] == shipped.max_detections == FACES >= 2000
    figures(tmp_path, "wider_face", data=node, ground_truth=str(mats), protocol={"max_detections": 7})
    assert SeesRed.limits[-1] == 7
    with pytest.raises(HemError, match=r"protocol\.max_detections=0"):
        figures(tmp_path, "wider_face", data=node, ground_truth=str(mats), protocol={"max_detections": 0})
    with pytest.raises(HemError, match="wider_easy_val"):
        figures(tmp_path, "wider_face", data=node)
    with pytest.raises(HemError, match=r"\+data=wider_face"):
        figures(tmp_path, "wider_face", ground_truth=str(mats))
    sees("cat", "dog")
    with pytest.raises(HemError, match="the benchmark asks for 'face'"):
        figures(tmp_path, "wider_face", data=node, ground_truth=str(mats))


def test_fddb(tmp_path, sees):
    sees("cat", "face")  # its reds are of class 1: not one face is found
    root = tmp_path / "fddb"
    left, top, right, bottom = BOX
    shape = (
        f"{(bottom - top) / 2} {(right - left) / 2} 1.5707963 {(left + right) / 2} {(top + bottom) / 2}  1"
    )
    (root / "FDDB-folds").mkdir(parents=True)
    for fold in range(1, 11):
        name = f"2002/08/11/big/img_{fold}"
        picture(root / f"originalPics/{name}.jpg", round_one=True)
        (root / f"FDDB-folds/FDDB-fold-{fold:02d}-ellipseList.txt").write_text(f"{name}\n1\n{shape}\n")
    blind = figures(tmp_path, "fddb", ground_truth=str(root))
    assert blind["faces"] == 10 and blind["images_without_predictions"] == 0
    assert blind["last_false_positives"] == 0 and blind["discrete_true_positive_rate_at_last"] is None
    sees("face")
    found = figures(tmp_path, "fddb", ground_truth=str(root))
    assert found["discrete_true_positive_rate_at_last"] == 1.0
    assert 0.6 < found["continuous_true_positive_rate_at_last"] < 0.9  # a box round an ellipse: about pi / 4
    assert found["last_false_positives"] == 10 and found["images_without_predictions"] == 0
    with pytest.raises(HemError, match="originalPics"):
        figures(tmp_path, "fddb")


def city(root: Path) -> dict:
    left, top, right, bottom = BOX
    for split in ("train", "val"):
        stem = "aachen_000000_000019"
        picture(root / f"leftImg8bit/{split}/aachen/{stem}_leftImg8bit.png")
        place = root / f"gtBboxCityPersons/{split}/aachen"
        place.mkdir(parents=True)
        box = [left, top, right - left, bottom - top]
        objects = [
            {"label": "pedestrian", "bbox": box, "bboxVis": box},
            {"label": "ignore", "bbox": [0, 0, 8, 8], "bboxVis": [0, 0, 8, 8]},
        ]
        document = {"imgWidth": SIZE[0], "imgHeight": SIZE[1], "objects": objects}
        (place / f"{stem}_gtBboxCityPersons.json").write_text(json.dumps(document))
    return {"_target_": "hem.data.city_persons.city_persons", "root": str(root)}


def test_miss_rate(tmp_path, sees):
    sees("pedestrian")
    found = figures(tmp_path, "miss_rate", data=city(tmp_path / "city"))
    assert found["reasonable_pedestrians"] == 0 and found["reasonable"] is None  # 30 px are too low for it
    # one pedestrian found; the false alarm lies in the ignore region
    assert found["all_pedestrians"] == 1 and found["all"] == 0.0
    truth = json.loads((tmp_path / "out/ground_truth.json").read_text())
    assert [one["ignore"] for one in truth["annotations"]] == [0, 1]
    voc = {"_target_": "hem.data.fddb.fddb", "root": str(tmp_path / "nowhere")}
    with pytest.raises(HemError, match="FDDB-folds"):
        figures(tmp_path, "miss_rate", data=voc)


def test_video(tmp_path, sees):
    sees("person")
    frames = [np.array(picture(tmp_path / "x.png", red=frame != 5)) for frame in range(12)]
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "a.mp4", iter(frames), 12.0)
    left, top, right, bottom = BOX
    row = f"1,{left},{top},{right - left},{bottom - top},1,-1,-1,-1"
    truth = tmp_path / "truth"
    truth.mkdir()
    (truth / "a.mp4.txt").write_text("".join(f"{frame},{row}\n" for frame in range(1, 13)))
    found = figures(tmp_path, "video", videos=str(tmp_path / "videos"), ground_truth=str(truth))
    assert found["frames"] == 12 and found["minutes"] == pytest.approx(1 / 60, rel=0.02)
    assert found["recall_at_best_f1"] == pytest.approx(11 / 12)
    assert found["false_alarms_per_minute_at_best_f1"] == 0
    with pytest.raises(HemError, match="videos=PATH"):
        figures(tmp_path, "video", ground_truth=str(truth))
    asked = len(SeesRed.asked)
    assert figures(tmp_path, "video", videos=str(tmp_path / "videos"), ground_truth=str(truth)) == found
    assert len(SeesRed.asked) == asked  # what an interrupted call finished is not asked again
    write_video(tmp_path / "videos" / "a.mp4", iter(frames[:1] * 12), 12.0)
    other = figures(tmp_path, "video", videos=str(tmp_path / "videos"), ground_truth=str(truth))
    assert other["recall_at_best_f1"] == 1  # another video by the same name is looked at anew
    write_video(tmp_path / "videos" / "a.mp4", iter(frames), 12.0)
    far = figures(tmp_path, "video", videos=f"file://{tmp_path / 'videos'}", ground_truth=str(truth))
    assert far == found  # a URL is copied below output_dir first


def test_videos_of_an_earlier_call_do_not_count(tmp_path, sees):
    sees("person")
    frames = np.array(picture(tmp_path / "x.png"))
    left, top, right, bottom = BOX
    truth = tmp_path / "truth"
    truth.mkdir()
    for name, length in (("a", 6), ("b", 10)):
        (tmp_path / name).mkdir()
        write_video(tmp_path / name / f"{name}.mp4", iter([frames] * length), 12.0)
        row = f"1,{left},{top},{right - left},{bottom - top},1,-1,-1,-1\n"
        text = "".join(f"{frame},{row}" for frame in range(1, length + 1))
        (truth / f"{name}.mp4.txt").write_text(text)
    settings = {"protocol": {"name": "video"}, "output_dir": str(tmp_path / "out"), "checkpoint": "x.pt"}
    for name, length in (("b", 10), ("a", 6)):
        more = {"videos": str(tmp_path / name), "ground_truth": str(truth)}
        (result,) = evaluate(check(EvaluateConfig, {**settings, **more})).values()
        assert (result.figures["videos"], result.figures["frames"]) == (1, length)
    assert len(list((tmp_path / "out/predictions").iterdir())) == 2, "what was paid for is kept"


def test_a_folder_must_be_a_run(tmp_path):
    settings = {
        "protocol": {"name": "coco"},
        "checkpoint": str(tmp_path),
        "output_dir": str(tmp_path / "out"),
    }
    with pytest.raises(HemError, match=r"stages\.json"):
        evaluate(check(EvaluateConfig, settings))
    with pytest.raises(HemError, match="not both"):
        evaluate(check(EvaluateConfig, {**settings, "predictions": "x", "ground_truth": "y"}))
    with pytest.raises(HemError, match="give predictions="):
        evaluate(check(EvaluateConfig, {**settings, "checkpoint": None}))


def test_help_says_where_a_protocol_comes_from():
    arguments = [sys.executable, "-m", "hem.evaluate", "protocol=wider_face", "--help"]
    environment = {**os.environ, "COLUMNS": "200"}
    said = subprocess.run(
        arguments, capture_output=True, text=True, cwd=ROOT, env=environment, check=True
    ).stdout
    assert SOURCES["wider_face"] in said
    assert "wider_{easy,medium,hard}_val.mat" in said
