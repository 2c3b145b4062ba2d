"""What a world is made of, and what comes back when it is made."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from hem.errors import HemError

WORLD_VERSION = 1
"""Raised whenever a change alters any frame: worlds of another version are never reused."""

CLASS_NAMES = ("face", "car")
"""Names of labels 1 and 2."""


@dataclass(frozen=True)
class WorldSpec:
    """Everything that decides a world; equal specs give equal frames and truth.

    Attributes:
        seed: >= 0; every still and video draws from its own stream of this seed.
        n_train, n_test: labelled stills, >= 0.
        n_unlabelled_videos, n_heldout_videos: videos to mine and to evaluate on, >= 0.
        frames_per_video, frames_per_heldout_video: length of each video, >= 1.
        size_px: side of the square stills and frames, even (H.264 with 4:2:0 colour), >= 64.
        fps: frames per second of the videos, >= 1.
    """

    seed: int = 0
    n_train: int = 400
    n_test: int = 120
    n_unlabelled_videos: int = 6
    n_heldout_videos: int = 5
    frames_per_video: int = 250
    frames_per_heldout_video: int = 150
    size_px: int = 192
    fps: int = 15

    def __post_init__(self) -> None:
        lowest = {"frames_per_video": 1, "frames_per_heldout_video": 1, "size_px": 64, "fps": 1}
        for field in fields(self):
            value, least = getattr(self, field.name), lowest.get(field.name, 0)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise HemError(f"world: {field.name} must be a whole number >= {least}, got {value!r}")
        if self.size_px % 2:
            raise HemError(f"world: size_px must be even for H.264, got {self.size_px}")

    def as_dict(self) -> dict[str, Any]:
        """Return the spec as JSON-like values."""
        return asdict(self)

    @property
    def n_frames(self) -> int:
        """All pictures that are drawn, stills included."""
        return (
            self.n_train
            + self.n_test
            + self.n_unlabelled_videos * self.frames_per_video
            + self.n_heldout_videos * self.frames_per_heldout_video
        )


@dataclass(frozen=True)
class World:
    """A world on disk.

    Attributes:
        root: its directory.
        spec: what made it.
        digest: sha256 over raw frames before encoding and over the truth, 64 hex digits.
    """

    root: Path
    spec: WorldSpec
    digest: str
    class_names: tuple[str, ...] = CLASS_NAMES

    def stills(self, split: str) -> tuple[Path, Path]:
        """Return (folder of JPEGs, COCO JSON) of ``split`` = ``train`` or ``test``."""
        return self.root / "stills" / split, self.root / "stills" / f"{split}.json"

    def videos(self, split: str) -> Path:
        """Return the folder of MP4 files of ``split`` = ``unlabelled`` or ``heldout``."""
        return self.root / "videos" / split

    def truth(self, split: str) -> Path:
        """Return the folder of truth files of ``split``; training never reads it."""
        return self.root / "truth" / split
