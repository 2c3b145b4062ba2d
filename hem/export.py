"""``python -m hem.export``: a replay set for training elsewhere, saying what the format cannot carry."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hem.arguments import command
from hem.artifacts import sha256_file, whole_directory, write_json
from hem.config import ExportConfig
from hem.errors import HemError
from hem.replay import ReplayRound, load_round, load_rounds
from hem.replay.dataset import ReplayDataset
from hem.replay.stored import EXAMPLES, MANIFEST
from hem.reporting.provenance import replay_folders
from hem.reporting.steps import Steps
from hem.structures import Target


@command(ExportConfig, "hem export replay=DIR output_dir=DIR [format=coco|yolo]")
def main(config: ExportConfig) -> None:
    """Copy the images and write labels in the chosen format; what it cannot carry is said and written.

    Raises:
        HemError: if ``replay`` holds no round, or one that the run has mined over since.
    """
    source, output = _folder_of(Path(config.replay)), Path(config.output_dir)
    is_round = (source / MANIFEST).is_file()
    rounds: Sequence[ReplayRound] = [load_round(source)] if is_round else load_rounds(source)
    if not rounds:
        raise HemError(
            f"replay={source} holds no replay round; give a run, an arm's replay folder or one round"
        )
    for one in rounds:
        _refuse_mined_over(one)
    dataset = ReplayDataset(rounds)
    with Steps() as steps, whole_directory(output) as folder:
        lost = (
            write_coco(dataset, rounds, folder)
            if config.format == "coco"
            else write_yolo(dataset, rounds, folder)
        )
        for one in rounds:
            steps.say(f"{one.directory}: round {one.index}, {len(one.frames)} frames")
        for line in lost:
            steps.say(f"not carried by {config.format}: {line}")
        (folder / "NOT_CARRIED.txt").write_text("\n".join(lost) + "\n", encoding="utf-8")
        steps.say(f"{len(dataset)} images written to {output}")


def _folder_of(given: Path) -> Path:
    """Return where the rounds lie: ``given`` itself, or what the record of the run there names.

    Raises:
        HemError: if it is a run in which several arms replay.
    """
    folders = replay_folders(given)
    if len(folders) > 1:
        arms = ", ".join(f"{folder} ({arm})" for arm, folder in folders.items())
        raise HemError(f"replay={given} is a run of several arms that replay; give the folder of one: {arms}")
    return next(iter(folders.values()), given)


def _refuse_mined_over(one: ReplayRound) -> None:
    """Refuse a round of hem.mine beside which other examples have been mined since."""
    examples = one.directory.parent.parent / EXAMPLES
    kept_of = one.made_by.get(EXAMPLES)
    if kept_of is not None and examples.is_file() and sha256_file(examples) != kept_of:
        raise HemError(
            f"{one.directory} holds frames of an earlier mining, not of {examples} as it is now: "
            "run hem.mine again as you did last, with keep_frames=true"
        )


def _copy_images(
    rounds: Sequence[ReplayRound], folder: Path, dataset: ReplayDataset
) -> list[tuple[str, Target]]:
    by_index = {one.index: one for one in rounds}
    copied = []
    for number, image_id in enumerate(dataset.image_ids):
        round_name, _, file = image_id.partition("/")
        frame_source = by_index[int(round_name.removeprefix("round_"))].directory / file
        name = image_id.replace("/", "_")
        shutil.copyfile(frame_source, folder / name)
        copied.append((name, dataset.target(number)))
    return copied


def write_coco(dataset: ReplayDataset, rounds: Sequence[ReplayRound], folder: Path) -> list[str]:
    """Write ``images/`` and ``annotations.json``; return what COCO readers will not see."""
    (folder / "images").mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (name, target) in enumerate(_copy_images(rounds, folder / "images", dataset), start=1):
        frame = dataset.frame(number - 1)
        images.append({"id": number, "file_name": name, "width": frame.width, "height": frame.height})
        rows = [(box, label, 0, float(weight)) for box, label, weight in zip(
            target.boxes_xyxy.tolist(), target.labels.tolist(), target.box_weights.tolist(), strict=True
        )]  # fmt: skip
        every = range(1, len(dataset.class_names) + 1)
        rows += [(box, label, 1, 0.0) for box in target.ignore_xyxy.tolist() for label in every]
        for box, label, crowd, weight in rows:
            left, top, right, bottom = box
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": label, "iscrowd": crowd,
                "bbox": [left, top, right - left, bottom - top],
                "area": (right - left) * (bottom - top), "weight": weight,
            })  # fmt: skip
    categories = [{"id": i, "name": name} for i, name in enumerate(dataset.class_names, start=1)]
    payload = {"images": images, "annotations": annotations, "categories": categories}
    write_json(folder / "annotations.json", "replay_coco", payload)
    return [
        f"hard negatives ({_count(dataset, 'negatives_xyxy')}): they are plain background there",
        "weights: written beside each box as 'weight', which COCO readers do not look at",
        f"ignore regions ({_count(dataset, 'ignore_xyxy')}): written as crowd regions of every class, "
        "which many trainers drop, so the region becomes background",
    ]


def write_yolo(dataset: ReplayDataset, rounds: Sequence[ReplayRound], folder: Path) -> list[str]:
    """Write ``images/``, ``labels/`` and ``classes.txt``; return what YOLO text cannot say."""
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for number, (name, target) in enumerate(_copy_images(rounds, folder / "images", dataset)):
        frame = dataset.frame(number)
        lines = []
        for (left, top, right, bottom), label in zip(
            target.boxes_xyxy.tolist(), target.labels.tolist(), strict=True
        ):
            x, y = (left + right) / 2 / frame.width, (top + bottom) / 2 / frame.height
            w, h = (right - left) / frame.width, (bottom - top) / frame.height
            lines.append(f"{label - 1} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n")
        (folder / "labels" / name).with_suffix(".txt").write_text("".join(lines), encoding="utf-8")
    (folder / "classes.txt").write_text("\n".join(dataset.class_names) + "\n", encoding="utf-8")
    return [
        f"hard negatives ({_count(dataset, 'negatives_xyxy')}): they are plain background there",
        f"ignore regions ({_count(dataset, 'ignore_xyxy')}): they become background there",
        "weights and soft scores: every box counts the same there",
    ]


def _count(dataset: ReplayDataset, name: str) -> int:
    return sum(len(getattr(dataset.target(index), name)) for index in range(len(dataset)))


if __name__ == "__main__":
    main()
