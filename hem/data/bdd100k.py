"""BDD100K detection labels, with splits by weather and time of day. Source: doc.bdd100k.com."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Unpack

from hem.artifacts import whole_file
from hem.data.base import DetectionDataset, ReadOptions
from hem.data.bundle import DataBundle
from hem.data.reading import inside, mapping_of, need, number, one_of, read_json_file
from hem.data.records import RawBox, RawImage
from hem.errors import HemError

CLASSES = (
    *("pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
    *("traffic light", "traffic sign"),
)
_OLD_NAMES = {"person": "pedestrian", "bike": "bicycle", "motor": "motorcycle"}
# these may or may not be of the class: not background, not an object
_UNSURE = {
    "other person": ("pedestrian", "rider"),
    "other vehicle": ("car", "truck", "bus"),
    "trailer": ("truck", "car"),
}
Part = Literal["all", "clear_day", "other"]


class Bdd100k(DetectionDataset):
    """BDD100K images with boxes, of one split and one kind of conditions.

    Crowds, and ``other person`` / ``other vehicle`` / ``trailer`` where a like class is read, become
    ignore regions. Old class names (person, bike, motor) are read as the new ones.

    Args:
        root: folder with ``images/100k/{train,val}`` and ``labels/``.
        split: ``train`` or ``val``.
        part: ``clear_day`` (weather clear and time of day daytime), ``other`` (every image that is
            not), or ``all``: the source and target domains of the self-training experiments of
            RoyChowdhury et al., CVPR 2019.
        classes: names to read, in the order of their labels.
        annotations: label file relative to ``root``; None looks for both official names.
        options: see DetectionDataset.
    """

    how_to: ClassVar[str] = (
        "Download '100K Images' and 'Detection 2020 Labels' of BDD100K (bdd-data.berkeley.edu), unpack "
        "both into one folder, so that it holds images/100k/ and labels/det_20/, and set data.root to it"
    )

    def __init__(
        self,
        root: Path | str,
        split: Literal["train", "val"] = "train",
        part: Part = "all",
        classes: Sequence[str] = CLASSES,
        annotations: str | None = None,
        **options: Unpack[ReadOptions],
    ) -> None:
        if split not in ("train", "val") or part not in ("all", "clear_day", "other"):
            raise HemError(
                f"BDD100K: split must be train or val, part all, clear_day or other; got {split}, {part}"
            )
        unknown = [name for name in classes if name not in CLASSES]
        if unknown or not classes or len(set(classes)) != len(classes):
            raise HemError(
                f"BDD100K: classes {list(classes)} must be distinct names out of {', '.join(CLASSES)}"
            )
        root = need(Path(root), self.how_to, directory=True)
        names = (f"labels/det_20/det_{split}.json", f"labels/bdd100k_labels_images_{split}.json")
        paths = [inside(root, name) for name in ((annotations,) if annotations else names)]
        path = need(next((path for path in paths if path.is_file()), paths[0]), self.how_to)
        labels = {name: label for label, name in enumerate(classes, 1)}
        raw = _images(path, f"images/100k/{split}", part, labels)
        super().__init__(root, raw, tuple(classes), **options)


def bdd100k(
    root: Path | str,
    classes: Sequence[str] = ("pedestrian",),
    train_part: Part = "clear_day",
    test_part: Part = "other",
    **options: Unpack[ReadOptions],
) -> DataBundle:
    """Return BDD100K train and val images of the given conditions; arguments as for Bdd100k."""
    return DataBundle(
        Bdd100k(root, "train", train_part, classes, **options),
        Bdd100k(root, "val", test_part, classes, **options),
    )


def _images(path: Path, folder: str, part: Part, labels: Mapping[str, int]) -> Iterator[RawImage]:
    document = read_json_file(path)
    if not isinstance(document, list):
        raise HemError(f"{path}: expected a list of images, found {type(document).__name__}")
    for row, entry in enumerate(document):
        where = f"{path}, [{row}]"
        image = mapping_of(entry, where)
        attributes = mapping_of(image.get("attributes") or {}, f"{where}: attributes")
        clear_day = attributes.get("weather") == "clear" and attributes.get("timeofday") == "daytime"
        if part != "all" and clear_day != (part == "clear_day"):
            continue
        name = one_of(image, "name", str, where)
        found = image.get("labels") or []
        if not isinstance(found, list):
            raise HemError(f"{where}: labels must be a list")
        boxes = [
            box
            for index, label in enumerate(found)
            for box in _box(mapping_of(label, f"{where}.labels[{index}]"), path, row, index, labels)
        ]
        conditions = {key: attributes.get(key) for key in ("weather", "timeofday", "scene")}
        yield RawImage(f"{folder}/{name}", boxes, str(path), extra=conditions)


def _box(
    label: Mapping[str, Any], path: Path, row: int, index: int, labels: Mapping[str, int]
) -> Iterator[RawBox]:
    where = f"{path}, [{row}].labels[{index}]"
    category = one_of(label, "category", str, where)
    category = _OLD_NAMES.get(category, category)
    unsure = [labels[name] for name in _UNSURE.get(category, ()) if name in labels]
    if label.get("box2d") is None or (category not in labels and not unsure):
        return  # lanes and drivable areas have no box
    box = label["box2d"]
    corners = [number(one_of(box, key, object, where), where) for key in ("x1", "y1", "x2", "y2")]
    attributes = mapping_of(label.get("attributes") or {}, where)
    crowd = attributes.get("crowd") is True or attributes.get("crowd") == "true"
    place = f"[{row}].labels[{index}]"
    yield RawBox(
        *(corners[0], corners[1], corners[2], corners[3]),
        labels.get(category, unsure[0] if len(unsure) == 1 else 0),
        crowd or bool(unsure),
        place,
    )


def list_videos(
    root: Path | str,
    videos: Path | str,
    output: Path | str,
    part: Part = "other",
    split: Literal["train", "val"] = "train",
) -> int:
    """Write the paths of the videos whose conditions are ``part``, one a line, for ``videos=FILE.txt``.

    An image of BDD100K has the name of the video it was taken from. The training split alone keeps
    the videos of the test images out.

    Args:
        root: as for Bdd100k.
        videos: folder of the unpacked videos (``<name>.mov``).
        output: the text file to write.
        part, split: which images' videos.

    Returns:
        How many are listed; a video that is not there is left out.

    Raises:
        HemError: as Bdd100k, or if no video is there.
    """
    images = Bdd100k(root, split, part).image_ids
    folder = need(Path(videos), "Download the videos of BDD100K (bdd-data.berkeley.edu)", directory=True)
    paths = [inside(folder, f"{Path(image).stem}.mov") for image in images]
    found = [path.resolve() for path in paths if path.is_file()]
    if not found:
        raise HemError(f"{folder} holds none of the {len(paths)} videos, such as {paths[0].name}")
    with whole_file(Path(output)) as temporary:
        temporary.write_text("".join(f"{path}\n" for path in found), encoding="utf-8")
    return len(found)
