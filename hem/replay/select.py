"""Which mined frames are worth keeping: caps per track, per video and in all, no near-duplicates."""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hem.errors import HemError
from hem.ops.grey import grey_of_rgb
from hem.replay.frames import FrameKey, anchored_frames
from hem.structures import HardExample, Kind

_BITS_SET = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1).astype(np.int64)
_SAME_PLACE_IOU = 0.5  # two anchors of consecutive frames that show the same thing in the same place


@dataclass(frozen=True)
class Caps:
    """How much one clip may contribute. None lifts a limit.

    Attributes:
        max_frames: frames of a round. Raising it costs disk and gives rarer drawing of each.
        max_per_video: frames of one video; lowering it keeps one long clip from dominating.
        max_per_track: frames in which one track (``evidence["track_id"]``, which `temporal`, `elicited` and
            `hem` tell) is an anchor; lowering it keeps one steady false alarm or person from dominating. A
            frame stays if any of its anchors has room or belongs to no track.
        duplicate_bits: two frames of one video are near-duplicates if their 256-bit difference
            hashes differ in at most this many bits *and* the weaker frame has no anchor that the
            other lacks. Raising it drops more; None keeps all.
    """

    max_frames: int | None = 2000
    max_per_video: int | None = 200
    max_per_track: int | None = 20
    duplicate_bits: int | None = 10

    def __post_init__(self) -> None:
        for name in ("max_frames", "max_per_video", "max_per_track"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise HemError(f"replay {name} must be >= 1 or null, got {value}")
        if self.duplicate_bits is not None and not 0 <= self.duplicate_bits <= 256:
            raise HemError(f"replay duplicate_bits must lie in 0..256 or be null, got {self.duplicate_bits}")


@dataclass(frozen=True)
class Candidate:
    """A frame that could be kept: its anchors and the weight they sum to."""

    key: FrameKey
    weight: float
    anchors: tuple[HardExample, ...]

    @property
    def tracks(self) -> list[tuple[str, int]]:
        """Tracks of its anchors; anchors without a track are left out."""
        found = {int(a.evidence["track_id"]) for a in self.anchors if a.evidence.get("track_id", -1) >= 0}
        return [(self.key[0], track) for track in sorted(found)]


@dataclass
class Selection:
    """Frames in order of preference, and how many were left out for which reason."""

    chosen: list[Candidate] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def candidates(
    examples: Sequence[HardExample], kinds: Collection[Kind], label_share: float = 0.0
) -> list[Candidate]:
    """Return the frames an arm replays (see anchored_frames), greatest weight first.

    Frames of one weight come in a fixed order that scatters them over the videos, so that a cap
    does not keep the first seconds of each.
    """
    frames = anchored_frames(examples, kinds, label_share)
    found = [Candidate(key, weight, anchors) for key, (weight, anchors) in frames.items()]
    return sorted(found, key=lambda c: (-c.weight, hashlib.sha256(repr(c.key).encode()).digest()))


def within_track_cap(ordered: Sequence[Candidate], cap: int | None) -> Selection:
    """Take frames in order while one of their anchors has room in its track."""
    selection, used = Selection(), Counter[tuple[str, int]]()
    for candidate in ordered:
        tracks = candidate.tracks
        free = any(a.evidence.get("track_id", -1) < 0 for a in candidate.anchors)
        if cap is not None and not free and all(used[track] >= cap for track in tracks):
            selection.left_out["track_cap"] += 1
            continue
        used.update(tracks)
        selection.chosen.append(candidate)
    return selection


def within_total_caps(ordered: Sequence[Candidate], caps: Caps, slack: int = 1) -> Selection:
    """Take frames in order up to ``slack`` times the caps per video and in all."""
    selection, per_video = Selection(), Counter[str]()
    for candidate in ordered:
        video = candidate.key[0]
        if caps.max_per_video is not None and per_video[video] >= slack * caps.max_per_video:
            selection.left_out["video_cap"] += 1
        elif caps.max_frames is not None and len(selection.chosen) >= slack * caps.max_frames:
            selection.left_out["frame_cap"] += 1
        else:
            per_video[video] += 1
            selection.chosen.append(candidate)
    return selection


def without_duplicates(
    ordered: Sequence[Candidate], hashes: Mapping[FrameKey, NDArray[np.uint8]], bits: int | None
) -> Selection:
    """Drop each frame that shows nothing which a preferred frame of its video does not show."""
    selection = Selection()
    kept: dict[str, list[Candidate]] = {}
    # hashes of the kept frames as one growing matrix per video: a Python loop over pairs takes minutes
    matrices: dict[str, NDArray[np.uint8]] = {}
    for candidate in ordered:
        video = candidate.key[0]
        earlier, own = kept.setdefault(video, []), hashes[candidate.key]
        matrix = matrices.setdefault(video, np.zeros((64, len(own)), dtype=np.uint8))
        if bits is not None and earlier:
            differing = _BITS_SET[matrix[: len(earlier)] ^ own].sum(axis=1)
            if any(_adds_nothing(candidate, earlier[row]) for row in np.flatnonzero(differing <= bits)):
                selection.left_out["near_duplicate"] += 1
                continue
        if len(earlier) == len(matrix):
            matrices[video] = matrix = np.concatenate([matrix, np.zeros_like(matrix)])
        matrix[len(earlier)] = own
        earlier.append(candidate)
        selection.chosen.append(candidate)
    return selection


def _adds_nothing(candidate: Candidate, other: Candidate) -> bool:
    return all(any(_same_thing(anchor, known) for known in other.anchors) for anchor in candidate.anchors)


def _same_thing(first: HardExample, second: HardExample) -> bool:
    if (first.kind, first.label) != (second.kind, second.label):
        return False
    from torchvision.ops import box_iou  # see hem.structures.target

    return float(box_iou(_box(first), _box(second))) >= _SAME_PLACE_IOU


def _box(example: HardExample) -> Tensor:
    return Tensor([example.box_xyxy])


def difference_hash(image: Tensor) -> NDArray[np.uint8]:
    """Return 256 bits (32 bytes) of a uint8 (3, H, W) RGB image: is each grey cell darker than the next?

    The picture is averaged to 16 x 17 grey cells, so noise and compression hardly change it, while
    a moving camera or a large object does.
    """
    grey = grey_of_rgb(np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy()))
    cells = cv2.resize(grey, (17, 16), interpolation=cv2.INTER_AREA).astype(np.int16)
    return np.packbits(cells[:, 1:] > cells[:, :-1])
