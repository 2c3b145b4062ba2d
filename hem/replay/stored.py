"""A finished replay round as read from disk: checked against its manifest, without what was dropped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from hem.artifacts import load_examples, read_json, sha256_file
from hem.errors import HemError
from hem.replay.drops import Drop, read_drops
from hem.replay.frames import FrameKey, anchored_frames
from hem.structures import HardExample, Kind

MANIFEST, COCO, EXAMPLES = "manifest.json", "annotations.json", "hard_examples.parquet"


@dataclass(frozen=True)
class ReplayFrame:
    """One stored frame: its file (POSIX path relative to the round), where it is from, its size in pixels."""

    file: str
    video_id: str
    video_digest: str
    frame_index: int
    time_s: float
    width: int
    height: int
    sha256: str
    n_bytes: int

    @property
    def key(self) -> FrameKey:
        """(video_id, frame_index)."""
        return (self.video_id, self.frame_index)


@dataclass(frozen=True)
class ReplayRound:
    """A finished round as read from disk.

    Attributes:
        directory: where it lies; everything inside is found relative to it.
        index: mining round, from 1.
        kinds, label_share: what the arm that wrote it uses; see anchored_frames.
        class_names: names of labels 1, 2, ….
        frames: stored frames that still have an anchor, sorted by video and frame.
        examples: what those frames teach. An example that was dropped is an ignore region here: a
            wrong hard negative may well be an object, and a wrong positive may still be one.
        counts: frames found and stored, frames left out by reason, examples by kind.
        made_by: digests of what made it (``model`` …).
        drops: what was dropped since, oldest first.
        digest: sha256 over the manifest, the round's identity.
    """

    directory: Path
    index: int
    kinds: tuple[Kind, ...]
    label_share: float
    class_names: tuple[str, ...]
    frames: tuple[ReplayFrame, ...]
    examples: tuple[HardExample, ...]
    counts: Mapping[str, int]
    made_by: Mapping[str, str]
    drops: tuple[Drop, ...]
    digest: str


def load_round(directory: Path, *, verify_images: bool = False, as_written: bool = False) -> ReplayRound:
    """Read a finished round, without what was dropped from it.

    The tables are checked against their digests and every image by its size in bytes.

    Args:
        directory: what write_round was given, wherever it lies now.
        verify_images: check every image's sha256 too (reads all of them).
        as_written: leave removals aside, to see the round as it was when it was trained on.

    Raises:
        HemError: if there is no finished round, or a file is absent or was changed.
    """
    manifest = directory / MANIFEST
    if not manifest.is_file():
        raise HemError(f"{directory} holds no finished replay round ({MANIFEST} is not there)")
    document = read_json(manifest, "replay_round")
    for name, digest in document["files"].items():
        if not (directory / name).is_file() or sha256_file(directory / name) != digest:
            raise HemError(f"{directory / name} is absent or was changed since the round was written")
    frames = [ReplayFrame(**image) for image in document["images"]]
    for frame in frames:
        _check_image(directory, frame, verify_images)
    examples, _ = load_examples(directory / EXAMPLES)
    kinds = tuple(Kind(kind) for kind in document["kinds"])
    drops = [] if as_written else read_drops(directory)
    alive = _without_dropped(examples, drops)
    label_share = float(document["label_share"])
    anchored = anchored_frames(alive, kinds, label_share)
    return ReplayRound(
        directory=directory,
        index=int(document["round"]),
        kinds=kinds,
        label_share=label_share,
        class_names=tuple(document["class_names"]),
        frames=tuple(frame for frame in frames if frame.key in anchored),
        examples=tuple(e for e in alive if (e.video_id, e.frame_index) in anchored),
        counts=document["counts"],
        made_by=document["made_by"],
        drops=tuple(drops),
        digest=sha256_file(manifest),
    )


def _check_image(directory: Path, frame: ReplayFrame, verify: bool) -> None:
    relative = PurePosixPath(frame.file)
    if relative.is_absolute() or ".." in relative.parts:
        raise HemError(f"{directory / MANIFEST}: image {frame.file!r} lies outside the round")
    path = directory / relative
    if not path.is_file():
        raise HemError(f"{path} is not there, but the round's manifest names it")
    if path.stat().st_size != frame.n_bytes or (verify and sha256_file(path) != frame.sha256):
        raise HemError(f"{path} was changed since the round was written")


def _without_dropped(examples: Sequence[HardExample], drops: Sequence[Drop]) -> list[HardExample]:
    videos = {video for drop in drops for video in drop.video_ids}
    dropped = {example_id for drop in drops for example_id in drop.example_ids}
    return [
        replace(example, kind=Kind.IGNORE) if example.example_id in dropped else example
        for example in examples
        if example.video_id not in videos
    ]


def load_rounds(root: Path, *, verify_images: bool = False, as_written: bool = False) -> list[ReplayRound]:
    """Read every finished round directly under ``root``, by round index; unfinished ones are passed over.

    Raises:
        HemError: if a finished round is damaged, or two have one index.
    """
    found = sorted(path.parent for path in root.glob(f"*/{MANIFEST}") if not path.parent.name.startswith("."))
    rounds = sorted(
        (load_round(one, verify_images=verify_images, as_written=as_written) for one in found),
        key=lambda r: r.index,
    )
    for first, second in pairwise(rounds):
        if first.index == second.index:
            raise HemError(f"{first.directory} and {second.directory} both are round {first.index}")
    return rounds


def load_image(replay_round: ReplayRound, frame: ReplayFrame) -> NDArray[np.uint8]:
    """Return a stored frame as uint8 (H, W, 3), RGB.

    Raises:
        HemError: if the file cannot be decoded.
    """
    path = replay_round.directory / frame.file
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise HemError(f"{path} is not a readable image")
    return np.ascontiguousarray(pixels[..., ::-1], dtype=np.uint8)
