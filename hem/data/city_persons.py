"""CityPersons. Source: the annotation readme of bitbucket.org/shanshanzhang/citypersons."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal, Unpack

import numpy as np

from hem.data.base import DetectionDataset, ReadOptions
from hem.data.bundle import DataBundle
from hem.data.pedestrian import Pedestrian, Reasonable, cells, load_mat, visible_share
from hem.data.reading import inside, mapping_of, need, number, one_of, read_json_file, whole_number
from hem.data.records import RawBox, RawImage
from hem.errors import HemError

_SIZE = (2048, 1024)  # every Cityscapes image; the .mat files do not say
_MAX_JSON_BYTES = 16 << 20
_FAR = 1e6  # pixels; beyond it a box is damage, counted by the judgement of boxes


class CityPersons(DetectionDataset):
    """CityPersons, class ``pedestrian``; a city is a group.

    Ignore regions: riders, sitting and other persons, groups, the regions marked ignore, and
    pedestrians that are small or hidden (see Reasonable). ``record(i).extra["pedestrians"]`` keeps all of
    them as the benchmark's own measure counts them (Pedestrian).

    Args:
        root: folder with ``leftImg8bit/{train,val}/<city>/`` and either
            ``gtBboxCityPersons/{train,val}/<city>/*.json`` or ``annotations/anno_{train,val}.mat``.
        split: ``train`` or ``val``.
        min_height, min_visible: see Reasonable.
        options: see DetectionDataset.
    """

    how_to: ClassVar[str] = (
        "Download leftImg8bit_trainvaltest.zip and gtBbox_cityPersons_trainval.zip from "
        "cityscapes-dataset.com, unpack them into one folder, and set data.root to it"
    )
    overhang_px: ClassVar[float] = float("inf")  # a pedestrian cut by the border is boxed whole
    outside: ClassVar[Literal["error", "skip"]] = "skip"

    def __init__(
        self,
        root: Path | str,
        split: Literal["train", "val"] = "train",
        min_height: float = 50.0,
        min_visible: float = 0.65,
        **options: Unpack[ReadOptions],
    ) -> None:
        if split not in ("train", "val"):
            raise HemError(f"CityPersons split must be train or val, got {split!r}; test has no labels")
        rules = Reasonable(min_height, min_visible)
        root = need(Path(root), self.how_to, directory=True)
        folder = inside(root, f"gtBboxCityPersons/{split}")
        if folder.is_dir():
            raw = _from_json(root, folder, split, rules)
        else:
            path = need(inside(root, f"annotations/anno_{split}.mat"), self.how_to)
            raw = _from_mat(path, split, rules)
        super().__init__(root, raw, ("pedestrian",), **options)


def city_persons(
    root: Path | str, min_height: float = 50.0, min_visible: float = 0.65, **options: Unpack[ReadOptions]
) -> DataBundle:
    """Return CityPersons train and val; arguments as for CityPersons."""
    return DataBundle(
        CityPersons(root, "train", min_height, min_visible, **options),
        CityPersons(root, "val", min_height, min_visible, **options),
    )


def _raw(
    box: Sequence[float], part: Sequence[float], pedestrian: bool, rules: Reasonable, place: str
) -> tuple[RawBox, Pedestrian]:
    left, top, width, height = box
    visible = visible_share(tuple(box), tuple(part))
    counts = pedestrian and rules.counts(height, visible)
    raw = RawBox(left, top, left + width, top + height, 1, not counts, place)
    return raw, Pedestrian(left, top, width, height, visible, not pedestrian)


def _raw_image(
    file: str, rows: Sequence[tuple[RawBox, Pedestrian]], source: Path, size: tuple[int, int], city: str
) -> RawImage:
    pedestrians = [one for _, one in rows if all(abs(value) < _FAR for value in one[:4])]
    boxes = [box for box, _ in rows]
    extra = {"pedestrians": pedestrians}
    return RawImage(f"leftImg8bit/{file}", boxes, str(source), size, group=city, extra=extra)


def _from_json(root: Path, folder: Path, split: str, rules: Reasonable) -> Iterator[RawImage]:
    for path in sorted(folder.glob("*/*.json")):
        inside(root, path.relative_to(root).as_posix())
        document = read_json_file(path, _MAX_JSON_BYTES)
        size = (
            whole_number(one_of(document, "imgWidth", object, str(path)), f"{path}: imgWidth", 1, 100_000),
            whole_number(one_of(document, "imgHeight", object, str(path)), f"{path}: imgHeight", 1, 100_000),
        )
        boxes = []
        for row, entry in enumerate(one_of(document, "objects", list, str(path))):
            where = f"{path}, objects[{row}]"
            item = mapping_of(entry, where)
            pedestrian = one_of(item, "label", str, where) == "pedestrian"
            box = _four(item, "bbox", where)
            part = _four(item, "bboxVis", where) if "bboxVis" in item else box
            boxes.append(_raw(box, part, pedestrian, rules, f"objects[{row}]"))
        city = path.parent.name
        stem = path.name.replace("_gtBboxCityPersons.json", "_leftImg8bit.png")
        yield _raw_image(f"{split}/{city}/{stem}", boxes, path, size, city)


def _four(item: object, key: str, where: str) -> list[float]:
    values = [number(value, f"{where}: {key}") for value in one_of(item, key, list, where)]
    if len(values) != 4:
        raise HemError(f"{where}: {key} must be [left, top, width, height]")
    return values


def _from_mat(path: Path, split: str, rules: Reasonable) -> Iterator[RawImage]:
    name = f"anno_{split}_aligned"
    for row, entry in enumerate(cells(load_mat(path, name)[name])):
        where = f"{path}, {name}[{row}]"
        city, file, table = (getattr(entry, key, None) for key in ("cityname", "im_name", "bbs"))
        if not isinstance(city, str) or not isinstance(file, str) or table is None:
            raise HemError(f"{where}: cityname, im_name or bbs is missing")
        rows = np.asarray(table)
        if rows.size and (rows.dtype.kind not in "fiu" or rows.reshape(-1).size % 10):
            raise HemError(f"{where}: bbs must have 10 columns of numbers")
        # class, left, top, width, height, instance, and the visible left, top, width, height
        boxes = [
            _raw(one[1:5], one[6:10], one[0] == 1, rules, f"{name}[{row}] row {index}")
            for index, one in enumerate(rows.reshape(-1, 10).astype(float).tolist())
        ]
        # the files spell one city in two ways
        yield _raw_image(f"{split}/{city.lower()}/{file}", boxes, path, _SIZE, city)
