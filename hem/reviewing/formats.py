"""Verdicts to and from other tools: COCO JSON, Label Studio tasks, FiftyOne detections.

Every layout carries the permanent example id, and a verdict beside it; a verdict is taken in again by
that id alone, so pictures may be renamed and boxes moved in between. Layouts:

- COCO JSON: ``verdict`` and ``example_id`` in each annotation (or in its ``attributes``, where some
  tools keep fields of their own);
- Label Studio: one task an example, the box as a prediction, the verdict as a choice named ``verdict``;
- FiftyOne: the layout of its FiftyOneImageDetectionDataset, verdict and id among each label's
  attributes; a tag ``right``, ``wrong`` or ``unsure`` on a label counts too.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hem.errors import HemError
from hem.structures import Answer, HardExample

ANSWERS = tuple(answer.value for answer in Answer)


@dataclass(frozen=True)
class Picture:
    """The stored frame of an example: file relative to the export, width and height in pixels."""

    file: str
    width: int
    height: int


@dataclass(frozen=True)
class Shown:
    """One example to export: what was mined, its frame, and the answer so far."""

    example: HardExample
    picture: Picture
    answer: Answer | None = None


def to_coco(shown: Sequence[Shown], class_names: Sequence[str]) -> dict[str, Any]:
    """Return a COCO document; each annotation has kind, rule, score, weight, example_id and verdict."""
    images: dict[str, dict[str, Any]] = {}
    annotations = []
    for number, one in enumerate(shown, start=1):
        example, picture = one.example, one.picture
        image = images.setdefault(
            picture.file,
            {
                "id": len(images) + 1,
                "file_name": picture.file,
                "width": picture.width,
                "height": picture.height,
                "video": example.video_id,
                "frame_index": example.frame_index,
            },
        )
        left, top, right, bottom = example.box_xyxy
        annotations.append({
            "id": number, "image_id": image["id"], "category_id": example.label, "iscrowd": 0,
            "bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top),
            "score": example.score, "weight": example.weight, "kind": example.kind.value,
            "rule": example.rule, "example_id": example.example_id,
            "verdict": None if one.answer is None else one.answer.value,
        })  # fmt: skip
    categories = [{"id": index, "name": name} for index, name in enumerate(class_names, start=1)]
    return {"images": list(images.values()), "annotations": annotations, "categories": categories}


def to_label_studio(shown: Sequence[Shown], class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Return Label Studio tasks; boxes are in percent of the picture, as it wants them."""
    return [_task(one, class_names[one.example.label - 1]) for one in shown]


def _task(one: Shown, name: str) -> dict[str, Any]:
    example, picture = one.example, one.picture
    left, top, right, bottom = example.box_xyxy
    region = {
        "id": example.example_id, "type": "rectanglelabels", "from_name": "box", "to_name": "image",
        "original_width": picture.width, "original_height": picture.height, "image_rotation": 0,
        "value": {
            "x": 100 * left / picture.width, "y": 100 * top / picture.height,
            "width": 100 * (right - left) / picture.width, "height": 100 * (bottom - top) / picture.height,
            "rotation": 0, "rectanglelabels": [name],
        },
    }  # fmt: skip
    task: dict[str, Any] = {
        "data": {
            "image": f"/data/local-files/?d={picture.file}",
            "example_id": example.example_id,
            "claim": claim(example, name),
            "video": example.video_id,
            "frame_index": example.frame_index,
            "rule": example.rule,
        },
        "predictions": [{"model_version": example.rule, "score": example.score, "result": [region]}],
    }
    if one.answer is not None:
        choice = {
            "id": f"v{example.example_id}", "type": "choices", "from_name": "verdict", "to_name": "image",
            "value": {"choices": [one.answer.value]},
        }  # fmt: skip
        task["annotations"] = [{"result": [region, choice], "was_cancelled": False}]
    return task


def label_studio_view(class_names: Sequence[str]) -> str:
    """Return the labelling interface that goes with to_label_studio, XML."""
    from xml.sax.saxutils import quoteattr

    labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in class_names)
    choices = "".join(f"    <Choice value={quoteattr(answer)}/>\n" for answer in ANSWERS)
    return (
        '<View>\n  <Header value="$claim"/>\n  <Image name="image" value="$image"/>\n'
        f'  <RectangleLabels name="box" toName="image">\n{labels}  </RectangleLabels>\n'
        f'  <Choices name="verdict" toName="image" choice="single">\n{choices}  </Choices>\n</View>\n'
    )


def to_fiftyone(shown: Sequence[Shown], class_names: Sequence[str]) -> dict[str, Any]:
    """Return the ``labels.json`` of a FiftyOneImageDetectionDataset; boxes are relative to the picture."""
    labels: dict[str, list[dict[str, Any]]] = {}
    for one in shown:
        example, picture = one.example, one.picture
        left, top, right, bottom = example.box_xyxy
        attributes = {
            "example_id": example.example_id, "kind": example.kind.value, "rule": example.rule,
            "weight": example.weight, "verdict": None if one.answer is None else one.answer.value,
        }  # fmt: skip
        labels.setdefault(Path(picture.file).stem, []).append({
            "label": example.label - 1,
            "bounding_box": [
                left / picture.width, top / picture.height,
                (right - left) / picture.width, (bottom - top) / picture.height,
            ],
            "confidence": example.score,
            "attributes": attributes,
        })  # fmt: skip
    return {"classes": list(class_names), "labels": labels}


def claim(example: HardExample, class_name: str) -> str:
    """Return what an example claims, as a sentence that is right or wrong."""
    if example.kind.value == "hard_negative":
        return f"There is no {class_name} in the red box."
    return f"The box covers a {class_name}."


Read = Callable[[object], Iterable[tuple[str, object]]]


def read_answers(path: Path, form: str) -> dict[str, Answer]:
    """Return the verdicts in a file of another tool by example id; examples without one are left out.

    Args:
        path: a JSON file.
        form: ``coco``, ``label_studio`` or ``fiftyone``.

    Raises:
        HemError: if the file cannot be read, is not of that layout, holds no verdict, or holds one that
            is not right, wrong or unsure.
    """
    readers: dict[str, Read] = {
        "coco": _from_coco,
        "label_studio": _from_label_studio,
        "fiftyone": _from_fiftyone,
    }
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise HemError(f"file={path} is not there") from None
    except IsADirectoryError:
        inside = ", ".join(sorted(one.name for one in path.glob("*.json"))) or "none"
        raise HemError(
            f"file={path} is a folder; name the JSON file with the answers in it ({inside})"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise HemError(f"{path} is not readable JSON: {error}") from None
    found: dict[str, Answer] = {}
    try:
        for example_id, answer in readers[form](document):
            if answer not in ANSWERS:
                raise HemError(
                    f"{path}: example {example_id} has verdict {answer!r}; use {', '.join(ANSWERS)}"
                )
            found[example_id] = Answer(str(answer))
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise HemError(f"{path} does not have the layout of format={form}: {error!r}") from None
    if not found:
        raise HemError(f"{path} holds no verdict with an example_id; was it exported by hem.review?")
    return found


def _pair(fields: Mapping[str, Any]) -> tuple[str, object] | None:
    """Return id and verdict where both are given."""
    inner = fields.get("attributes") or {}
    example_id = fields.get("example_id") or inner.get("example_id")
    answer = fields.get("verdict") or inner.get("verdict")
    return (str(example_id), answer) if example_id and answer else None


def _from_coco(document: Any) -> Iterable[tuple[str, object]]:  # noqa: ANN401
    return [pair for one in document["annotations"] if (pair := _pair(one))]


def _from_label_studio(document: Any) -> Iterable[tuple[str, object]]:  # noqa: ANN401
    found = []
    for task in document:
        data = task.get("data", task)  # the short export has no inner data
        kept = [one for one in task.get("annotations", []) if not one.get("was_cancelled")]
        chosen = [
            region["value"]["choices"][0]
            for one in kept
            for region in one["result"]
            if region["from_name"] == "verdict"
        ]
        answer = chosen[-1] if chosen else task.get("verdict")
        if answer:
            found.append((str(data["example_id"]), answer))
    return found


def _from_fiftyone(document: Any) -> Iterable[tuple[str, object]]:  # noqa: ANN401
    found = []
    for labels in document["labels"].values():
        for one in labels or []:
            tags = [tag for tag in one.get("tags", []) if tag in ANSWERS]
            given = {**one, "verdict": tags[-1]} if tags else one
            pair = _pair(given)
            if pair:
                found.append(pair)
    return found
