"""Worlds on disk: drawn in parallel, written whole, checked before they are used again."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hem.artifacts import digest_of, read_json, sha256_file, whole_directory, write_json
from hem.data.video_truth import save_truth, truth_path
from hem.data.world.encode import encode_h264
from hem.data.world.scene_truth import FrameTruth
from hem.data.world.shots import draw_video
from hem.data.world.spec import CLASS_NAMES, WORLD_VERSION, World, WorldSpec
from hem.data.world.stills import draw_still
from hem.errors import HemError
from hem.structures import VideoTruth

Progress = Callable[[int, int, float], None]
"""Called with (pictures done, pictures in all, pictures a second) after every still or video."""

_STREAMS = {"train": 1, "test": 2, "unlabelled": 3, "heldout": 4}
_CRF = (23, 29)  # x264's quality is drawn from here for each video; both ends included
_STOPPED = "world building was stopped"


@dataclass(frozen=True)
class _Piece:
    """One still or video to make: its split, its number in it, and its frames (1 for a still)."""

    split: str
    index: int
    n_frames: int

    @property
    def name(self) -> str:
        kind, ending = ("still", "jpg") if self.split in ("train", "test") else ("clip", "mp4")
        return f"{kind}_{self.index:04d}.{ending}"


def _generator(spec: WorldSpec, piece: _Piece) -> np.random.Generator:
    """Return the piece's own stream: nothing depends on which piece is drawn first, or where."""
    key = (_STREAMS[piece.split], piece.index)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(spec.seed, spawn_key=key)))


def _pieces(spec: WorldSpec) -> list[_Piece]:
    """List everything to draw, the long pieces first so that workers finish together."""
    return [
        *(_Piece("unlabelled", i, spec.frames_per_video) for i in range(spec.n_unlabelled_videos)),
        *(_Piece("heldout", i, spec.frames_per_heldout_video) for i in range(spec.n_heldout_videos)),
        *(_Piece("train", i, 1) for i in range(spec.n_train)),
        *(_Piece("test", i, 1) for i in range(spec.n_test)),
    ]


def _truth_key(truths: list[FrameTruth]) -> list[Any]:
    return [[t.boxes_xyxy, t.labels, t.ignore, t.object_ids] for t in truths]


def raw_frames(spec: WorldSpec, split: str, index: int) -> Iterator[tuple[NDArray[np.uint8], FrameTruth]]:
    """Yield the frames of one still or video before encoding, uint8 RGB (S, S, 3), with their truth.

    Raises:
        HemError: if ``split`` is none of train, test, unlabelled, heldout.
    """
    if split not in _STREAMS:
        raise HemError(f"world: split {split!r} is none of {', '.join(_STREAMS)}")
    if split in ("train", "test"):
        yield draw_still(_generator(spec, _Piece(split, index, 1)), spec.size_px)
    else:
        n_frames = spec.frames_per_video if split == "unlabelled" else spec.frames_per_heldout_video
        yield from draw_video(_generator(spec, _Piece(split, index, n_frames)), spec.size_px, n_frames)


def _make(spec: WorldSpec, piece: _Piece, root: Path, stop: Event) -> tuple[str, list[FrameTruth]]:
    """Draw and write one piece; return the digest of its raw frames and truth, and the truth."""
    digest = hashlib.sha256()
    truths: list[FrameTruth] = []

    def frames() -> Iterator[NDArray[np.uint8]]:
        for picture, truth in raw_frames(spec, piece.split, piece.index):
            if stop.is_set():
                raise HemError(_STOPPED)
            digest.update(picture.tobytes())
            truths.append(truth)
            yield picture

    if piece.split in ("train", "test"):
        picture = next(frames())
        quality = [cv2.IMWRITE_JPEG_QUALITY, 90]
        _, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), quality)
        (root / "stills" / piece.split / piece.name).write_bytes(data.tobytes())
    else:
        crf = int(
            np.random.Generator(np.random.PCG64([spec.seed, piece.index])).integers(_CRF[0], _CRF[1] + 1)
        )
        path = root / "videos" / piece.split / piece.name
        encode_h264(path, frames(), spec.fps, crf, keyframe_every=2 * spec.fps)
        save_truth(truth_path(root / "truth" / piece.split, piece.name), _video_truth(piece.name, truths))
    digest.update(digest_of(_truth_key(truths)).encode())
    return digest.hexdigest(), truths


def _video_truth(video_id: str, truths: list[FrameTruth]) -> VideoTruth:
    counts = [len(truth.labels) for truth in truths]
    return VideoTruth(
        video_id=video_id,
        frame_index=np.repeat(np.arange(len(truths), dtype=np.int64), counts),
        boxes_xyxy=np.array([box for t in truths for box in t.boxes_xyxy], dtype=np.float64).reshape(-1, 4),
        labels=np.array([label for t in truths for label in t.labels], dtype=np.int64),
        ignore=np.array([ignored for t in truths for ignored in t.ignore], dtype=np.bool_),
        object_id=np.array([number for t in truths for number in t.object_ids], dtype=np.int64),
        labelled_frames=np.ones(len(truths), dtype=np.bool_),
        class_names=CLASS_NAMES,
    )


def _draw_all(
    spec: WorldSpec, root: Path, workers: int, progress: Progress | None
) -> dict[_Piece, tuple[str, list[FrameTruth]]]:
    """Make every piece on ``workers`` threads (drawing and encoding release the interpreter's lock)."""
    pieces = _pieces(spec)
    made: dict[_Piece, tuple[str, list[FrameTruth]]] = {}
    started, done, stop = time.monotonic(), 0, Event()
    with ThreadPoolExecutor(workers) as pool:
        waiting: dict[Future[tuple[str, list[FrameTruth]]], _Piece] = {
            pool.submit(_make, spec, piece, root, stop): piece for piece in pieces
        }
        try:
            while waiting:
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    piece = waiting.pop(future)
                    made[piece] = future.result()
                    done += piece.n_frames
                    if progress is not None:
                        progress(done, spec.n_frames, done / max(time.monotonic() - started, 1e-9))
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return made


def _coco(spec: WorldSpec, split: str, made: dict[_Piece, tuple[str, list[FrameTruth]]]) -> dict[str, Any]:
    """Return COCO's form of one split; regions to ignore have ``iscrowd`` = 1."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for piece in (p for p in _pieces(spec) if p.split == split):
        truth = made[piece][1][0]
        size = {"width": spec.size_px, "height": spec.size_px}
        images.append({"id": piece.index + 1, "file_name": piece.name, **size})
        for box, label, ignored in zip(truth.boxes_xyxy, truth.labels, truth.ignore, strict=True):
            width, height = box[2] - box[0], box[3] - box[1]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": piece.index + 1,
                    "category_id": label,
                    "bbox": [box[0], box[1], width, height],
                    "area": width * height,
                    "iscrowd": int(ignored),
                }
            )
    categories = [{"id": number + 1, "name": name} for number, name in enumerate(CLASS_NAMES)]
    return {"images": images, "annotations": annotations, "categories": categories}


def make_world(
    root: Path, spec: WorldSpec, *, workers: int | None = None, progress: Progress | None = None
) -> World:
    """Write the world of ``spec`` under ``root``, or check and return the one that is there.

    Layout: ``stills/{train,test}/*.jpg`` with ``stills/{train,test}.json`` (COCO),
    ``videos/{unlabelled,heldout}/*.mp4`` (H.264), ``truth/{unlabelled,heldout}/<video>.parquet``
    (VideoTruth; nothing that trains or mines may read it), ``world.json``. The directory appears
    whole or not at all.

    Args:
        root: where the world is or will be.
        spec: what it is made of.
        workers: threads that draw, None for as many as there are cores (at most 8); the world does
            not depend on it.
        progress: see Progress.

    Raises:
        HemError: if ``root`` holds something else, a world of another spec or version, or a damaged
            world.
    """
    root = Path(root)
    if root.exists():
        return load_world(root, spec)
    count = max(1, min(8, os.cpu_count() or 1)) if workers is None else max(1, workers)
    with whole_directory(root) as part:
        for folder in ("stills/train", "stills/test", "videos/unlabelled", "videos/heldout"):
            (part / folder).mkdir(parents=True)
        for folder in ("truth/unlabelled", "truth/heldout"):
            (part / folder).mkdir(parents=True)
        made = _draw_all(spec, part, count, progress)
        for split in ("train", "test"):
            write_json(part / "stills" / f"{split}.json", "coco_labels", _coco(spec, split, made))
        digest = digest_of([[p.split, p.name, made[p][0]] for p in _pieces(spec)])
        payload = {
            "spec": spec.as_dict(),
            "world_version": WORLD_VERSION,
            "seed": spec.seed,
            "digest": digest,
            "class_names": list(CLASS_NAMES),
            "files": _file_digests(part),
        }
        write_json(part / "world.json", "world", payload)
    return World(root, spec, digest)


def _file_digests(root: Path) -> dict[str, str]:
    paths = sorted(p for p in root.rglob("*") if p.is_file() and p.name != "world.json")
    return {p.relative_to(root).as_posix(): sha256_file(p) for p in paths}


def load_world(root: Path, spec: WorldSpec | None = None) -> World:
    """Open a world and check every file's digest.

    Raises:
        HemError: if there is no world, it is not of ``spec`` (when given) or of this version, or a
            file was changed, lost or added.
    """
    root = Path(root)
    if not (root / "world.json").is_file():
        raise HemError(f"{root} exists but holds no world.json; remove it or choose another directory")
    document = read_json(root / "world.json", "world")
    try:
        found = WorldSpec(**document["spec"])
        version, digest, files = document["world_version"], str(document["digest"]), document["files"]
    except (KeyError, TypeError) as error:
        raise HemError(
            f"{root / 'world.json'} is incomplete ({error}); remove {root} to make it anew"
        ) from None
    if version != WORLD_VERSION or (spec is not None and found != spec):
        raise HemError(
            f"{root} holds a world of another kind (version {version}, {found}); "
            "remove it or choose another directory"
        )
    present = _file_digests(root)
    for name in sorted(present.keys() ^ files.keys()):
        raise HemError(
            f"{root / name} was {'added' if name in present else 'lost'}; remove {root} to make it anew"
        )
    for name, expected in files.items():
        if present[name] != expected:
            raise HemError(f"{root / name} was changed; remove {root} to make the world anew")
    return World(root, found, digest)
