"""Tiny fake datasets in the real ones' folder shapes, quirks included."""

import json
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from hem.data.base import DetectionDataset
from hem.data.bdd100k import Bdd100k
from hem.data.caltech import Caltech
from hem.data.city_persons import CityPersons
from hem.data.coco_json import CocoJson
from hem.data.fddb import Fddb
from hem.data.mot_challenge import MotChallenge
from hem.data.pascal_text import PascalText
from hem.data.pascal_voc import PascalVoc
from hem.data.wider_face import WiderFace
from hem.data.yolo_text import YoloText

WIDTH, HEIGHT = 64, 48


def picture(path: Path, width: int = WIDTH, height: int = HEIGHT, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(path)
    return path


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def make_coco(root: Path) -> None:
    for index in range(3):
        picture(root / f"train2017/{index}.jpg", seed=index)
    document = {
        "images": [
            {"id": 10 + i, "file_name": f"{i}.jpg", "width": WIDTH, "height": HEIGHT} for i in range(3)
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
        "annotations": [
            {"id": 1, "image_id": 10, "category_id": 18, "bbox": [1, 2, 10, 20], "iscrowd": 0},
            {"id": 2, "image_id": 10, "category_id": 1, "bbox": [30, 2, 10.5, 20], "iscrowd": 0},
            {"id": 3, "image_id": 11, "category_id": 1, "bbox": [0, 0, 40, 40], "iscrowd": 1},
            {"id": 4, "image_id": 11, "category_id": 18, "bbox": [5, 5, 0, 9], "iscrowd": 0},
        ],
    }
    put(root / "annotations/instances_train2017.json", json.dumps(document))


def make_penn(root: Path) -> None:
    for index, count in enumerate((2, 1)):
        name = f"FudanPed0000{index + 1}"
        picture(root / f"PNGImages/{name}.png", seed=index)
        label = "PASpersonWalking"
        text = (
            "# Compatible with PASCAL Annotation Version 1.00\n"
            f'Image filename : "PennFudanPed/PNGImages/{name}.png"\n'
            f"Image size (X x Y x C) : {WIDTH} x {HEIGHT} x 3\n"
            f"Objects with ground truth : {count} {{ {f'{chr(34)}{label}{chr(34)} ' * count}}}\n"
        )
        for one in range(1, count + 1):
            text += (
                f'\n# Details for pedestrian {one} ("{label}")\n'
                f'Bounding box for object {one} "{label}" (Xmin, Ymin) - (Xmax, Ymax) : '
                f"({one * 10}, 5) - ({one * 10 + 8}, 30)\n"
            )
        put(root / f"Annotation/{name}.txt", text)


def make_wider(root: Path) -> None:
    names = ("0--Parade/0_Parade_1.jpg", "0--Parade/0_Parade_2.jpg", "1--Hand/1_Hand_3.jpg")
    for index, name in enumerate(names):
        picture(root / f"WIDER_train/images/{name}", seed=index)
    put(
        root / "wider_face_split/wider_face_train_bbx_gt.txt",
        f"{names[0]}\n2\n4 5 10 12 0 0 0 0 0 0 \n30 5 9 9 2 0 0 1 2 0 \n"
        f"{names[1]}\n0\n0 0 0 0 0 0 0 0 0 0 \n"
        f"{names[2]}\n2\n20 20 0 7 2 0 0 0 0 0 \n50 30 18 10 0 0 0 0 0 0 \n",
    )


def make_fddb(root: Path) -> None:
    for fold in range(1, 11):
        name = f"2002/08/11/big/img_{fold}"
        picture(root / f"originalPics/{name}.jpg", seed=fold)
        put(
            root / f"FDDB-folds/FDDB-fold-{fold:02d}-ellipseList.txt",
            f"{name}\n2\n12.0 8.0 1.5707963267948966 20.0 24.0  1\n10 6 0.3 62 40 1\n",
        )


def vbb_bytes(occl: int = 1, posv: tuple[float, ...] = (11, 3, 10, 20)) -> bytes:
    """A .vbb; ``occl`` and ``posv`` are those of the person at (11, 3, 10, 40) in frame 59."""

    def ped(number: int, pos: list[float], occl: int = 0, posv: tuple[float, ...] = (0, 0, 0, 0)) -> dict:
        return {"id": float(number), "pos": np.array(pos), "occl": float(occl), "posv": np.array(posv, float)}

    frames = np.empty((1, 60), dtype=object)
    for at in range(60):
        frames[0, at] = np.zeros((0, 0))
    fields = [("id", object), ("pos", object), ("occl", object), ("posv", object)]

    def rows(*items: dict) -> np.ndarray:
        out = np.empty((1, len(items)), dtype=fields)
        for column, item in enumerate(items):
            for key, value in item.items():
                out[0, column][key] = value
        return out

    frames[0, 29] = rows(
        ped(1, [2, 3, 10, 40]), ped(2, [20, 3, 10, 40]), ped(3, [40, 3, 10, 40]), ped(4, [50, 3, 5, 6])
    )
    frames[0, 59] = rows(ped(1, [11, 3, 10, 40], occl, posv))
    labels = np.array(["person", "people", "person?", "person"], dtype=object).reshape(1, -1)
    stream = BytesIO()
    savemat(stream, {"A": {"nFrame": 60.0, "objLists": frames, "objLbl": labels}})
    return stream.getvalue()


def make_caltech(root: Path) -> None:
    path = root / "annotations/set00/V000.vbb"
    path.parent.mkdir(parents=True)
    path.write_bytes(vbb_bytes())
    for frame in (28, 29, 59):
        picture(root / f"images/set00/V000/I{frame:05d}.jpg", seed=frame)


def make_seq(path: Path, frames: int = 4, padding: int = 8) -> list[bytes]:
    header = bytearray(1024)
    struct.pack_into("<I", header, 0, 0xFEED)
    struct.pack_into("<II", header, 568, 102, frames)
    body, pictures = b"", []
    for index in range(frames):
        stream = BytesIO()
        Image.new("RGB", (16, 16), (index * 20, 0, 0)).save(stream, "JPEG")
        pictures.append(stream.getvalue())
        body += struct.pack("<I", len(pictures[-1]) + 4) + pictures[-1] + bytes(padding)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(header) + body)
    return pictures


def make_city(root: Path) -> None:
    stem = "aachen_000000_000019"
    picture(root / f"leftImg8bit/train/aachen/{stem}_leftImg8bit.png")
    objects = [
        {"label": "pedestrian", "bbox": [2, 2, 10, 30], "bboxVis": [2, 2, 10, 30], "instanceId": 24000},
        {"label": "pedestrian", "bbox": [20, 2, 10, 30], "bboxVis": [20, 2, 10, 10], "instanceId": 24001},
        {"label": "rider", "bbox": [35, 2, 10, 30], "bboxVis": [35, 2, 10, 30], "instanceId": 25001},
        {"label": "ignore", "bbox": [-5, 0, 20, 10], "bboxVis": [0, 0, 15, 10], "instanceId": 0},
    ]
    document = {"imgWidth": WIDTH, "imgHeight": HEIGHT, "objects": objects}
    put(root / f"gtBboxCityPersons/train/aachen/{stem}_gtBboxCityPersons.json", json.dumps(document))


def make_voc(root: Path) -> None:
    picture(root / "VOC2007/JPEGImages/000001.jpg")
    picture(root / "VOC2007/JPEGImages/000002.jpg", seed=1)
    thing = (
        "<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>5</ymin>"
        "<xmax>{}</xmax><ymax>20</ymax></bndbox></object>"
    )
    for number, things in ((1, (("dog", 0, 1, 12), ("person", 1, 20, 30), ("cat", 0, 40, 50))), (2, ())):
        put(
            root / f"VOC2007/Annotations/{number:06d}.xml",
            f"<annotation><filename>{number:06d}.jpg</filename>"
            f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
            + "".join(thing.format(*one) for one in things)
            + "</annotation>",
        )
    put(root / "VOC2007/ImageSets/Main/trainval.txt", "000001\n000002\n")


def make_bdd(root: Path) -> None:
    entries = []
    weathers = (("clear", "daytime"), ("rainy", "daytime"), ("clear", "night"))
    for index, (weather, time) in enumerate(weathers):
        picture(root / f"images/100k/train/{index}.jpg", seed=index)
        entries.append(
            {
                "name": f"{index}.jpg",
                "attributes": {"weather": weather, "timeofday": time, "scene": "city street"},
                "labels": [
                    {"category": "person", "box2d": {"x1": 1, "y1": 2, "x2": 11, "y2": 30}},
                    {
                        "category": "pedestrian",
                        "attributes": {"crowd": True},
                        "box2d": {"x1": 20, "y1": 2, "x2": 40, "y2": 30},
                    },
                    {"category": "other person", "box2d": {"x1": 42, "y1": 2, "x2": 50, "y2": 30}},
                    {"category": "car", "box2d": {"x1": 51, "y1": 2, "x2": 60, "y2": 30}},
                    {"category": "lane", "poly2d": []},
                ],
            }
        )
    entries[2]["labels"] = None
    put(root / "labels/det_20/det_train.json", json.dumps(entries))


def make_mot(root: Path) -> None:
    for name in ("A-01", "B-02"):
        for frame in (1, 2, 3):
            picture(root / f"{name}/img1/{frame:06d}.jpg", seed=frame)
        put(
            root / f"{name}/seqinfo.ini",
            f"[Sequence]\nname={name}\nimDir=img1\nframeRate=25\nseqLength=3\nimWidth={WIDTH}\n"
            f"imHeight={HEIGHT}\nimExt=.jpg\n",
        )
    put(
        root / "A-01/gt/gt.txt",
        "1,1,2,3,10,20,1,1,1.0\n1,2,20,3,10,20,0,1,1.0\n1,3,40,3,10,20,1,3,1.0\n1,4,40,30,10,10,0,8,1\n"
        "2,1,3,3,10,20,1,1,0.1\n3,1,-4,3,10,20,1,1,0.9\n3,2,900,3,10,20,1,1,0.9\n9,1,1,1,5,5,1,1,1\n",
    )
    put(root / "B-02/gt/gt.txt", "1,1,2,3,10,20,1,-1,-1,-1\n2,1,2,3,10,20,0,-1,-1,-1\n")


def make_yolo(root: Path) -> None:
    for index in range(3):
        picture(root / f"images/train/{index}.jpg", seed=index)
    put(root / "labels/train/0.txt", "0 0.5 0.5 0.25 0.5\n1 0.1 0.1 0.3 0.1 0.3 0.4\n")
    put(root / "labels/train/1.txt", "")
    put(root / "data.yaml", "path: ../elsewhere\ntrain: images/train\nnames:\n  0: cat\n  1: dog\n")


@dataclass(frozen=True)
class Format:
    """A fake dataset: how to make it, how to open it, and which files hold its annotations."""

    make: Callable[[Path], None]
    open: Callable[..., DetectionDataset]
    annotations: str


FORMATS = {
    "coco": Format(make_coco, CocoJson, "annotations/*.json"),
    "penn": Format(make_penn, PascalText, "Annotation/*.txt"),
    "wider": Format(make_wider, WiderFace, "wider_face_split/*.txt"),
    "fddb": Format(make_fddb, Fddb, "FDDB-folds/*.txt"),
    "caltech": Format(
        make_caltech,
        lambda root, **more: Caltech(root, sets=["set00"], min_height=20, **more),
        "annotations/*/*.vbb",
    ),
    "city": Format(
        make_city, lambda root, **more: CityPersons(root, min_height=20, **more), "gtBbox*/*/*/*.json"
    ),
    "voc": Format(make_voc, PascalVoc, "VOC2007/Annotations/*.xml"),
    "bdd": Format(make_bdd, Bdd100k, "labels/*/*.json"),
    "mot": Format(make_mot, MotChallenge, "*/gt/gt.txt"),
    "yolo": Format(make_yolo, YoloText, "labels/*/*.txt"),
}


@pytest.fixture(scope="session")
def formats() -> dict[str, Format]:
    return FORMATS


@pytest.fixture
def fake(tmp_path: Path) -> Callable[[str], Path]:
    """Make one fake dataset by name and return its root."""

    def build(name: str) -> Path:
        root = tmp_path / name
        FORMATS[name].make(root)
        return root

    return build


@pytest.fixture(scope="session")
def draw_picture() -> Callable[..., Path]:
    return picture


@pytest.fixture(scope="session")
def write_seq() -> Callable[..., list[bytes]]:
    return make_seq


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The optional folder of real data; tests that need it skip where it is absent."""
    beside = Path(__file__).resolve().parents[2].parent / "shared"
    root = Path(os.environ.get("HEM_SHARED", beside)) / "data"
    if not root.is_dir():
        pytest.skip(f"no real data at {root}; set HEM_SHARED to a folder that holds data/")
    return root


@pytest.fixture(scope="session")
def make_vbb() -> Callable[..., bytes]:
    return vbb_bytes
