"""Replay rounds as a map-style dataset of partly labelled images."""

from collections.abc import Collection, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hem.errors import HemError
from hem.replay.frames import balanced, frame_weights, partial_targets
from hem.replay.stored import ReplayFrame, ReplayRound, load_image
from hem.structures import Kind, LabelledImage, Target


class ReplayDataset:
    """Frames of any number of rounds with their targets and drawing weights.

    A frame found in several rounds stands in each of them with that round's labels.

    Args:
        rounds: finished rounds with the same class names.
        kinds, label_share: what the arm uses; None = what each round was written for.
        decay: in [0, 1]; a frame's drawing weight is multiplied by decay ** age, age = newest round
            index minus its own. Lowering it forgets older rounds sooner; 1 keeps them all equal. At
            0 only the newest round is drawn.
        video_balance: in [0, 1]; see balanced.
        background: see partial_targets.
        soft_scores, tracker_score: see partial_targets.
        cache_bytes: decoded images kept in RAM up to this many bytes, per process; 0 = none.

    Attributes:
        weights: float64 (N,), drawing weights (not loss weights; those are in the targets).
        image_ids: ``round_<index>/<file>``, unique.
        class_names: as in the rounds; () without rounds.

    Raises:
        HemError: if the rounds' classes differ, two rounds have one index, or decay is out of range.
    """

    def __init__(
        self,
        rounds: Sequence[ReplayRound],
        *,
        kinds: Collection[Kind] | None = None,
        label_share: float | None = None,
        decay: float = 0.5,
        video_balance: float = 0.0,
        background: Collection[Kind] = (),
        soft_scores: bool = False,
        tracker_score: float = 1.0,
        cache_bytes: int = 0,
    ) -> None:
        if not 0 <= decay <= 1:
            raise HemError(f"replay decay must lie in [0, 1], got {decay}")
        if len({one.class_names for one in rounds}) > 1:
            raise HemError("replay rounds have different class names: " + _list(rounds, "class_names"))
        if len({one.index for one in rounds}) < len(rounds):
            raise HemError("two replay rounds have one index: " + _list(rounds, "index"))
        self.class_names: tuple[str, ...] = rounds[0].class_names if rounds else ()
        self._entries: list[tuple[ReplayRound, ReplayFrame, Target]] = []
        weights: list[float] = []
        newest = max((one.index for one in rounds), default=0)
        for one in sorted(rounds, key=lambda r: r.index):
            used = one.kinds if kinds is None else tuple(kinds)
            share = one.label_share if label_share is None else label_share
            sizes = {frame.video_id: (frame.width, frame.height) for frame in one.frames}
            targets = partial_targets(
                one.examples,
                used,
                label_share=share,
                background=background,
                soft_scores=soft_scores,
                tracker_score=tracker_score,
                sizes=sizes,
            )
            drawing = frame_weights(one.examples, used, share)
            frames = [frame for frame in one.frames if frame.key in targets]
            of_videos = balanced({frame.key: drawing[frame.key] for frame in frames}, video_balance)
            for frame in frames:
                self._entries.append((one, frame, targets[frame.key]))
                weights.append(of_videos[frame.key] * decay ** (newest - one.index))
        self.weights: NDArray[np.float64] = np.array(weights, dtype=np.float64)
        self.image_ids = [f"round_{one.index}/{frame.file}" for one, frame, _ in self._entries]
        self._cache: dict[int, Tensor] = {}
        self._cache_room = cache_bytes

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> LabelledImage:
        """Return one frame, uint8 (3, H, W) RGB, with its target.

        Raises:
            HemError: if the stored image cannot be decoded or has another size than was recorded.
        """
        target = self._entries[index][2]
        return LabelledImage(self._image(index), target, self.image_ids[index])

    def _image(self, index: int) -> Tensor:
        cached = self._cache.get(index)
        if cached is not None:
            return cached.clone()  # a caller may write into its image; the cache must stay whole
        one, frame, _ = self._entries[index]
        pixels = load_image(one, frame)
        if pixels.shape[:2] != (frame.height, frame.width):
            raise HemError(
                f"{one.directory / frame.file} is {pixels.shape[1]} x {pixels.shape[0]} pixels, "
                f"the manifest says {frame.width} x {frame.height}"
            )
        image = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
        if image.numel() <= self._cache_room:
            self._cache_room -= image.numel()
            self._cache[index] = image.clone()
        return image

    def target(self, index: int) -> Target:
        """Return one frame's target without reading its image."""
        return self._entries[index][2]

    def frame(self, index: int) -> ReplayFrame:
        """Return where one frame is from."""
        return self._entries[index][1]


def _list(rounds: Sequence[ReplayRound], name: str) -> str:
    return ", ".join(f"{one.directory}: {getattr(one, name)}" for one in rounds)
