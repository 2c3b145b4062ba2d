"""A sample of mined examples as a folder that other annotation tools read."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from hem.artifacts import whole_directory, write_json
from hem.errors import HemError
from hem.reporting.review_source import Reviewable
from hem.reviewing.formats import (
    Picture,
    Shown,
    label_studio_view,
    to_coco,
    to_fiftyone,
    to_label_studio,
)
from hem.structures import Answer, HardExample
from hem.video.stream import frames_again

IMAGES = {"coco": "images", "label_studio": "images", "fiftyone": "data"}


def export_sample(
    folder: Path,
    form: str,
    source: Reviewable,
    examples: Sequence[HardExample],
    answers: Mapping[str, Answer],
) -> list[str]:
    """Write the examples' frames and one JSON document; return the files written beside the pictures.

    Args:
        folder: must not exist yet.
        form: ``coco`` (annotations.json), ``label_studio`` (tasks.json, view.xml) or ``fiftyone``
            (labels.json).
        source: where the examples are from.
        examples: what to export.
        answers: given so far, by example id.

    Raises:
        HemError: if the folder exists, or frames cannot be read again.
    """
    highest = max((example.label for example in examples), default=0)
    names = [source.class_name(label) for label in range(1, max(highest, len(source.class_names)) + 1)]
    with whole_directory(folder) as temporary:
        pictures = _store(temporary, IMAGES[form], source, examples)
        shown = [
            Shown(one, pictures[(one.video_id, one.frame_index)], answers.get(one.example_id))
            for one in examples
        ]
        if form == "coco":
            write_json(temporary / "annotations.json", "review_coco", to_coco(shown, names))
            return ["annotations.json"]
        if form == "fiftyone":
            write_json(temporary / "labels.json", "review_fiftyone", to_fiftyone(shown, names))
            return ["labels.json"]
        tasks = json.dumps(to_label_studio(shown, names), indent=1, allow_nan=False)
        (temporary / "tasks.json").write_text(tasks + "\n", encoding="utf-8")  # it wants a bare list
        (temporary / "view.xml").write_text(label_studio_view(names), encoding="utf-8")
        return ["tasks.json", "view.xml"]


def _store(
    folder: Path, inner: str, source: Reviewable, examples: Sequence[HardExample]
) -> dict[tuple[str, int], Picture]:
    """Write each example's frame once, at full size; return the pictures by (video_id, frame_index)."""
    (folder / inner).mkdir()
    pictures: dict[tuple[str, int], Picture] = {}
    for video_id in sorted({example.video_id for example in examples}):
        if video_id not in source.videos:
            raise HemError(f"{source.run}: nothing is known of where {video_id} lies")
        indices = {example.frame_index for example in examples if example.video_id == video_id}
        name = hashlib.sha256(video_id.encode()).hexdigest()[:12]  # a video id may hold anything
        for index, frame in frames_again(source.videos[video_id], indices):  # one at a time
            file = f"{inner}/{name}-{index:06d}.jpg"
            pixels = np.ascontiguousarray(frame.permute(1, 2, 0).numpy()[..., ::-1])
            done, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])
            if not done:
                raise HemError(f"{video_id} frame {index} could not be encoded as JPEG")
            (folder / file).write_bytes(data.tobytes())
            pictures[(video_id, index)] = Picture(file, int(frame.shape[2]), int(frame.shape[1]))
    return pictures
