"""Every experiment that is named: composed as written, and run on fake data of the real folder shape."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from hem import export
from hem.artifacts.places import read_stages
from hem.building import build_detector
from hem.compose import conf_dir
from hem.config import EvaluateConfig, TrainConfig, check
from hem.data.coco_json import CocoJson
from hem.evaluate import evaluate
from hem.instantiate import check_arguments, locate
from hem.reporting.run_log import RunLog
from hem.reporting.steps import Steps
from hem.train import run_experiment
from hem.training.checkpoint import load_checkpoint
from hem.video.writer import write_video

WIDTH, HEIGHT = 128, 96
BOX = (40, 20, 72, 84)  # x1, y1, x2, y2 of the one object of a picture
TINY = [
    "detector=small_fcos", "augment=light", "trainer=small", "trainer.threads=1", "logger.mode=disabled",
    "trainer.baseline.steps=1", "trainer.baseline.steps_per_epoch=1", "trainer.baseline.batch_size=1",
    "trainer.extra.steps=1", "trainer.extra.steps_per_epoch=1", "trainer.extra.batch_size=1",
    "detector.min_size=96", "detector.max_size=128", "detector.backbone=mobilenetv3_small_050",
]  # fmt: skip


def drawn(seed: int, shift: int = 0) -> Image.Image:
    """One object on a background that no other seed has."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    left, top, right, bottom = BOX
    ImageDraw.Draw(image).ellipse((left + shift, top, right + shift, bottom), fill=(230, 180, 150))
    return image


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn(seed).save(path)


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def film(folder: Path, count: int = 1, frames: int = 12) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        pixels = (np.array(drawn(900 + number, shift)) for shift in range(frames))
        write_video(folder / f"v{number}.mp4", pixels, 10.0)
    return folder


def make_wider(root: Path) -> None:
    left, top, right, bottom = BOX
    for split, first in (("train", 0), ("val", 10)):
        text = ""
        for seed in range(first, first + 3):
            name = f"0--Parade/0_Parade_{seed}.jpg"
            picture(root / f"WIDER_{split}/images/{name}", seed)
            text += f"{name}\n1\n{left} {top} {right - left} {bottom - top} 0 0 0 0 0 0 \n"
        empty = "0--Parade/0_Parade_99.jpg"  # an image of no face is followed by a row of zeros
        picture(root / f"WIDER_{split}/images/{empty}", first + 99)
        put(
            root / f"wider_face_split/wider_face_{split}_bbx_gt.txt",
            text + f"{empty}\n0\n" + "0 " * 10 + "\n",
        )


def make_coco(root: Path) -> None:
    categories = [{"id": 18, "name": "dog"}, {"id": 7, "name": "train"}, {"id": 1, "name": "person"}]
    left, top, right, bottom = BOX
    for split, first in (("train2017", 20), ("val2017", 30)):
        images, annotations = [], []
        for seed in range(first, first + 4):
            picture(root / split / f"{seed:012d}.jpg", seed)
            images.append({"id": seed, "file_name": f"{seed:012d}.jpg", "width": WIDTH, "height": HEIGHT})
            for category in (18, 7) if seed % 4 else (1,):
                box = [left, top, right - left, bottom - top]
                row = {"id": len(annotations) + 1, "image_id": seed, "category_id": category, "iscrowd": 0}
                annotations.append({**row, "bbox": box, "area": box[2] * box[3]})
        document = {"images": images, "annotations": annotations, "categories": categories}
        put(root / f"annotations/instances_{split}.json", json.dumps(document))


def make_caltech(root: Path) -> None:
    from scipy.io import savemat

    fields = [("id", object), ("pos", object), ("occl", object), ("posv", object)]
    for number, name in enumerate(("set00", "set06")):
        frames = np.empty((1, 60), dtype=object)
        for at in range(60):
            frames[0, at] = np.zeros((0, 0))
        for at in (29, 59):
            picture(root / f"images/{name}/V000/I{at:05d}.jpg", 40 + 10 * number + at)
            row = np.empty((1, 1), dtype=fields)
            left, top, right, bottom = BOX
            box = np.array([left + 1, top + 1, right - left, bottom - top], float)
            row[0, 0]["id"], row[0, 0]["pos"] = 1.0, box
            row[0, 0]["occl"], row[0, 0]["posv"] = 0.0, np.zeros(4)
            frames[0, at] = row
        labels = np.array(["person"], dtype=object).reshape(1, -1)
        path = root / f"annotations/{name}/V000.vbb"
        path.parent.mkdir(parents=True)
        savemat(path, {"A": {"nFrame": 60.0, "objLists": frames, "objLbl": labels}}, appendmat=False)
    for name in ("set01", "set02", "set03", "set04", "set05", "set07", "set08", "set09", "set10"):
        (root / f"annotations/{name}").mkdir(parents=True)


def make_bdd(root: Path) -> None:
    box = dict(zip(("x1", "y1", "x2", "y2"), BOX, strict=True))
    for split, first in (("train", 200), ("val", 210)):
        entries = []
        for seed, (weather, time) in enumerate(
            (("clear", "daytime"), ("rainy", "daytime"), ("clear", "night")), first
        ):
            picture(root / f"images/100k/{split}/{seed:08x}-{seed:08x}.jpg", seed)
            entries.append({
                "name": f"{seed:08x}-{seed:08x}.jpg", "attributes": {"weather": weather, "timeofday": time},
                "labels": [{"category": "pedestrian", "box2d": box}],
            })  # fmt: skip
        put(root / f"labels/det_20/det_{split}.json", json.dumps(entries))


def make_penn(root: Path) -> None:
    left, top, right, bottom = BOX
    for seed in range(70, 75):
        name = f"FudanPed{seed:05d}"
        picture(root / f"PNGImages/{name}.png", seed)
        put(
            root / f"Annotation/{name}.txt",
            "# Compatible with PASCAL Annotation Version 1.00\n"
            f'Image filename : "PennFudanPed/PNGImages/{name}.png"\n'
            f"Image size (X x Y x C) : {WIDTH} x {HEIGHT} x 3\n"
            'Objects with ground truth : 1 { "PASpersonWalking" }\n'
            'Bounding box for object 1 "PASpersonWalking" (Xmin, Ymin) - (Xmax, Ymax) : '
            f"({left + 1}, {top + 1}) - ({right}, {bottom})\n",
        )


MAKERS: dict[str, Callable[[Path], None]] = {
    "face_wider": make_wider,
    "pedestrian_caltech": make_caltech,
    "coco_dog": make_coco,
    "coco_train": make_coco,
    "bdd_adapt": make_bdd,
    "penn_fudan": make_penn,
}
DETECTORS = {
    "face_wider": "vgg16",
    "pedestrian_caltech": "vgg16",
    "coco_dog": "vgg16",
    "coco_train": "vgg16",
    "bdd_adapt": "resnet50_fpn",
    "penn_fudan": "mobilenetv3_small_100",
}


def compose(name: str, *overrides: str) -> dict:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = hydra_compose("train", ["output_dir=x", f"+experiment={name}", *overrides])
    return OmegaConf.to_container(config, resolve=True)


def train(name: str, folder: Path, data: Path, videos: Path, *more: str) -> dict:
    """Run an experiment in this process; composing from the command line is tested elsewhere."""
    places = [f"data.root={data}", f"videos={videos}"]
    places += [f"output_dir={folder}", f"store_dir={folder / 'store'}"]
    config = check(TrainConfig, compose(name, *TINY, *places, *more))
    folder.mkdir(parents=True)
    with Steps() as steps, RunLog(config.logger, folder, name=name, seed=0, config={}) as log:
        return run_experiment(config, folder, steps, log)


def test_there_is_no_experiment_without_a_test() -> None:
    files = {path.stem for path in (conf_dir() / "experiment").glob("*.yaml")}
    assert files == {*MAKERS, "quickstart"}
    for name in MAKERS:
        text = (conf_dir() / "experiment" / f"{name}.yaml").read_text()
        assert f"python -m hem.train +experiment={name}" in text
        assert "Hardware:" in text
        assert ("Paper:" in text) or name == "penn_fudan"


@pytest.mark.parametrize("name", MAKERS)
def test_the_real_configuration_composes(name: str) -> None:
    config = check(TrainConfig, compose(name, "data.root=/data", "videos=/videos"))
    assert config.name == name
    assert config.detector["backbone"] == DETECTORS[name]
    assert config.control in config.arms
    build_detector(config.detector, ("thing",))  # checks its arguments, builds nothing
    for group in ("data", "mining", "collect"):
        node = dict(getattr(config, group))
        check_arguments(locate(node.pop("_target_"), group), node, group)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("face_wider", ["WIDER_train.zip", "data.root"]),
        ("pedestrian_caltech", ["annotations.zip", "data.root"]),
        ("coco_dog", ["train2017.zip", "data.root"]),
        ("coco_train", ["annotations_trainval2017.zip", "data.root"]),
        ("bdd_adapt", ["100K Images", "data.root"]),
        ("penn_fudan", ["PennFudanPed.zip", "data.root"]),
    ],
)
def test_absent_data_say_what_to_download_and_where_it_goes(
    tmp_path: Path, name: str, words: list[str]
) -> None:
    from hem.building import build_data
    from hem.errors import HemError

    config = check(TrainConfig, compose(name, f"data.root={tmp_path / 'nowhere'}", "videos=/videos"))
    with pytest.raises(HemError, match="is not there") as found:
        build_data(config, lambda *_: None)
    assert all(word in str(found.value) for word in words)


ONE_STEP = [name for name in MAKERS if name != "coco_dog"]  # that one runs the whole loop, below


@pytest.mark.parametrize("name", ONE_STEP)
def test_one_step_of_every_experiment(tmp_path: Path, name: str) -> None:
    MAKERS[name](tmp_path / "data")
    videos = film(tmp_path / "videos")
    more = ["collect.variants=[]"] if name == "bdd_adapt" else ["collect.variants=[]", "arms=short"]
    document = train(name, tmp_path / "run", tmp_path / "data", videos, *more)
    written = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert written["arms"] == document["arms"]
    assert document["name"] == name
    rows = ["continued", "pseudo_labels", "gaps", "soft", "flickers_and_gaps"]
    arms = rows if name == "bdd_adapt" else ["continued", "flickers", "flickers_and_gaps"]
    assert list(document["arms"]) == ["baseline", *arms]
    assert all(arm["AP"] is not None for arm in document["arms"].values())
    assert document["mining"]["frames"] == 12


def test_coco_dog_runs_the_whole_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_coco(tmp_path / "data")
    videos = film(tmp_path / "videos", count=2)
    more = ["trainer.baseline.steps=6", "trainer.extra.steps=3", "trainer.baseline.batch_size=2"]
    # a network of six steps is sure of nothing: ask for little, and start it off less shy
    more += ["mining.score_threshold=0.1", "+mining.min_area=1", "+mining.border_margin=0"]
    more += ["+mining.window=2", "+mining.iou_threshold=0.4", "detector.prior=0.3"]
    more += ["+collect.paper_score_threshold=[0.1,0.9]", "+collect.paper_iou_threshold=[0.1,0.9]"]
    more += ["+collect.paper_min_area=1", "+collect.paper_border_margin=0"]
    run = tmp_path / "run"
    document = train("coco_dog", run, tmp_path / "data", videos, *more)
    assert list(document["arms"]) == ["baseline", "continued", "flickers"]
    assert document["mining"]["frames"] == 24
    mined = document["mining"]["purity"]
    assert mined["hard_negative"]["mined"] + mined["pseudo_label"]["mined"] > 0
    for arm in document["arms"].values():
        assert list(arm["per_class"]["stills"]) == ["dog"]
        assert arm["per_class"]["stills"]["dog"]["AP"] == pytest.approx(arm["AP"])
    for name in ("report.html", "hard_examples.json", "hard_examples.parquet", "stages.json", "config.json"):
        assert (run / name).is_file(), name
    stages = read_stages(run)
    checkpoints = {name: load_checkpoint(path) for name, path in stages["checkpoints"].items()}
    assert all(one.class_names == ("dog",) for one in checkpoints.values())
    assert stages["evidence"] is not None

    out = tmp_path / "figures"
    data = {**compose("coco_dog", "videos=x", f"data.root={tmp_path / 'data'}")["data"]}
    settings = {"protocol": {"name": "coco"}, "checkpoint": str(run), "data": data, "output_dir": str(out)}
    evaluate(check(EvaluateConfig, settings))
    for arm, figures in document["arms"].items():
        again = json.loads((out / arm / "figures.json").read_text())["figures"]
        assert again["AP"] == pytest.approx(figures["AP"], abs=2e-3)
        assert (out / arm / "curve.svg").read_text().startswith("<?xml")

    (arm,) = (run / "store").glob("arm-flickers-*")
    images = len(list((arm / "replay").rglob("*.png")))
    assert images > 0
    for form in ("coco", "yolo"):
        given = [f"replay={arm / 'replay'}", f"format={form}", f"output_dir={tmp_path / form}"]
        monkeypatch.setattr(sys, "argv", ["hem export", *given])
        export.main()
        lost = (tmp_path / form / "NOT_CARRIED.txt").read_text()
        assert all(word in lost for word in ("hard negatives", "weights", "ignore regions"))
        assert len(list((tmp_path / form / "images").iterdir())) == images
    assert len(list((tmp_path / "yolo" / "labels").iterdir())) == images
    exported = CocoJson(tmp_path / "coco", "annotations.json", "images")  # hem reads its own export
    assert len(exported) == images
