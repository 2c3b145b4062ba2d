"""One mining round on disk: frames, one COCO JSON, exact examples and a manifest with digests."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hem.artifacts import (
    digest_of,
    read_json,
    save_coco,
    save_examples,
    sha256_file,
    whole_directory,
    write_json,
)
from hem.errors import HemError
from hem.replay.frames import FrameKey, by_frame, frame_name
from hem.replay.select import (
    Candidate,
    Caps,
    Selection,
    candidates,
    difference_hash,
    within_total_caps,
    within_track_cap,
    without_duplicates,
)
from hem.replay.stored import COCO, EXAMPLES, MANIFEST, ReplayFrame, ReplayRound, load_round
from hem.structures import HardExample, Kind, VideoInfo

ReadFrames = Callable[[VideoInfo, Sequence[int]], Iterable[tuple[int, Tensor]]]
ALL_KINDS = tuple(Kind)


def write_round(
    directory: Path,
    round_index: int,
    examples: Sequence[HardExample],
    videos: Sequence[VideoInfo],
    read_frames: ReadFrames,
    class_names: Sequence[str],
    *,
    kinds: Collection[Kind] = ALL_KINDS,
    label_share: float = 0.0,
    caps: Caps | None = None,
    image_format: str = "png",
    jpeg_quality: int = 95,
    made_by: Mapping[str, str] | None = None,
) -> ReplayRound:
    """Choose frames, store them and write a round; a killed run leaves nothing that loads.

    Frames are chosen by the weight of their anchors (see hem.replay.frames.anchored_frames), then
    limited by ``caps``. All examples of a chosen frame are stored, those of unused kinds too.

    Args:
        directory: must not exist yet.
        round_index: >= 1.
        examples: mined boxes; a round without any is legal and holds no frame.
        videos: every video that ``examples`` name.
        read_frames: gives the frames asked for (sorted, unique), each with its number, as uint8 (3, H, W)
            RGB; called once per video. One is held at a time, so it had better be a generator.
        class_names: names of labels 1, 2, ….
        kinds, label_share: what the arm uses; see anchored_frames.
        caps: None = the defaults of Caps.
        image_format: ``png`` (the pixels that were mined) or ``jpg`` (about a tenth of the size).
        jpeg_quality: 1..100, for ``jpg`` only.
        made_by: digests of what made the examples, for example ``{"model": …}``.

    Raises:
        HemError: if the directory exists, a video is not in ``videos``, a label has no name, a frame
            cannot be read again, or an argument is outside its range.
    """
    if round_index < 1:
        raise HemError(f"replay rounds count from 1, got {round_index}")
    if image_format not in ("png", "jpg") or not 1 <= jpeg_quality <= 100:
        raise HemError(
            f"replay images are png or jpg with quality 1..100, got {image_format}, {jpeg_quality}"
        )
    by_id = {video.video_id: video for video in videos}
    _check(examples, by_id, class_names)
    caps = caps or Caps()
    used = tuple(sorted({Kind(kind) for kind in kinds}))
    ordered = candidates(examples, used, label_share)
    tracked = within_track_cap(ordered, caps.max_per_track)
    # twice the caps, because near-duplicates are only known once the frames were read
    readable = within_total_caps(tracked.chosen, caps, slack=2)
    with whole_directory(directory) as temporary:
        stored, hashes = _store(temporary, readable.chosen, by_id, read_frames, image_format, jpeg_quality)
        distinct = without_duplicates(readable.chosen, hashes, caps.duplicate_bits)
        final = within_total_caps(distinct.chosen, caps)
        keys = {candidate.key for candidate in final.chosen}
        for key in stored.keys() - keys:
            (temporary / stored.pop(key).file).unlink()
        frames = [stored[key] for key in sorted(stored)]
        kept = [one for key, group in by_frame(examples).items() if key in keys for one in group]
        _write_tables(temporary, frames, kept, videos, class_names)
        document = {
            "round": round_index,
            "kinds": [kind.value for kind in used],
            "label_share": label_share,
            "class_names": list(class_names),
            "caps": asdict(caps),
            "counts": _counts(len(ordered), (tracked, readable, distinct, final), frames, kept),
            "examples_digest": digest_of([example.example_id for example in kept]),
            "files": {name: sha256_file(temporary / name) for name in (COCO, EXAMPLES)},
            "images": [asdict(frame) for frame in frames],
        }
        write_json(temporary / MANIFEST, "replay_round", document, made_by=made_by)
    return load_round(directory)


def _check(
    examples: Sequence[HardExample], videos: Mapping[str, VideoInfo], class_names: Sequence[str]
) -> None:
    for example in examples:
        where = frame_name((example.video_id, example.frame_index))
        if example.video_id not in videos:
            raise HemError(f"{where}: its video is not among the {len(videos)} videos given")
        if example.label > len(class_names):
            raise HemError(f"{where}: label {example.label}, but there are {len(class_names)} class names")


def _counts(
    found: int, steps: Iterable[Selection], frames: Sequence[ReplayFrame], kept: Sequence[HardExample]
) -> dict[str, int]:
    left_out = Counter[str]()
    for step in steps:
        left_out.update(step.left_out)
    counts = {"frames_found": found, "frames_stored": len(frames)}
    counts |= {f"frames_left_out_{reason}": left_out[reason] for reason in sorted(left_out)}
    return counts | {kind.value: sum(e.kind is kind for e in kept) for kind in Kind}


def _store(
    directory: Path,
    chosen: Sequence[Candidate],
    videos: Mapping[str, VideoInfo],
    read_frames: ReadFrames,
    image_format: str,
    jpeg_quality: int,
) -> tuple[dict[FrameKey, ReplayFrame], dict[FrameKey, NDArray[np.uint8]]]:
    """Read, hash and store the chosen frames, video by video, forward."""
    times = {c.key: (c.anchors[0].time_s, c.anchors[0].video_digest) for c in chosen}
    stored: dict[FrameKey, ReplayFrame] = {}
    hashes: dict[FrameKey, NDArray[np.uint8]] = {}
    for video_id in sorted({key[0] for key in times}):
        video = videos[video_id]
        wanted = sorted(key[1] for key in times if key[0] == video_id)
        for index, image in read_frames(video, wanted):
            key = (video_id, index)
            hashes[key] = difference_hash(image)
            file = f"frames/{_folder(video_id)}/{index:06d}.{image_format}"
            data = _encode(image, image_format, jpeg_quality)
            (directory / file).parent.mkdir(parents=True, exist_ok=True)
            (directory / file).write_bytes(data)
            height, width = image.shape[-2:]
            time_s, digest = times[key]
            stored[key] = ReplayFrame(
                file, video_id, digest, index, time_s, width, height, sha256(data).hexdigest(), len(data)
            )
        lost = [key for index in wanted if (key := (video_id, index)) not in stored]
        if lost:
            raise HemError(
                f"{frame_name(lost[0])} was mined but cannot be read again; is {video.path} whole?"
            )
    return stored, hashes


def _folder(video_id: str) -> str:
    """Return a folder name that every file system takes and no other video id gives."""
    plain = re.sub(r"[^A-Za-z0-9]+", "_", PurePosixPath(video_id).stem).strip("_")[:40]
    return f"{plain or 'video'}-{sha256(video_id.encode()).hexdigest()[:8]}"


def _encode(image: Tensor, image_format: str, jpeg_quality: int) -> bytes:
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy()[..., ::-1])
    setting = (
        [cv2.IMWRITE_PNG_COMPRESSION, 3]
        if image_format == "png"
        else [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality]
    )
    done, data = cv2.imencode(f".{image_format}", pixels, setting)
    if not done:
        raise HemError(f"a frame of shape {tuple(image.shape)} could not be encoded as {image_format}")
    return bytes(data)


def _write_tables(
    directory: Path,
    frames: Sequence[ReplayFrame],
    examples: Sequence[HardExample],
    videos: Sequence[VideoInfo],
    class_names: Sequence[str],
) -> None:
    save_examples(directory / EXAMPLES, examples, class_names=class_names)
    save_coco(directory / COCO, examples, videos, class_names)
    # the same document with the stored files in it, so that a COCO reader finds the pictures
    document = read_json(directory / COCO, "hard_examples_coco")
    by_key = {frame.key: frame for frame in frames}
    for image in document["images"]:
        frame = by_key[(image["video"], image["frame_index"])]
        image |= {"file_name": frame.file, "width": frame.width, "height": frame.height}
    payload = {name: document[name] for name in ("images", "annotations", "categories")}
    write_json(directory / COCO, "hard_examples_coco", payload)
