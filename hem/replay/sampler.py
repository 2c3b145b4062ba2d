"""Which images make up batch k: labelled ones in a fixed stream, mined ones added by weight."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hem.errors import HemError

_ORDER, _LABELLED, _REPLAY = 0, 1, 2  # separate random streams under one seed
_SEED_END = 2**31


@dataclass(frozen=True)
class BatchPlan:
    """One batch before anything is read.

    Attributes:
        labelled: (index into the labelled dataset, augmentation seed in [0, 2**31)).
        replay: (index into the replay dataset, augmentation seed); drawn with replacement.
    """

    labelled: tuple[tuple[int, int], ...]
    replay: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.labelled) + len(self.replay)


def _random(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


@lru_cache(maxsize=8)
def _permutation(seed: int, epoch: int, cycle: int, count: int) -> NDArray[np.int64]:
    return _random(seed, _ORDER, epoch, cycle).permutation(count)


class MixedBatches:
    """Plans of batches; batch k of an epoch is a pure function of (seed, round, epoch, k).

    The labelled part depends on (seed, epoch, k) alone: arms that mine other things, or nothing,
    see the same labelled images in the same order with the same augmentation seeds. Replay images
    come on top of them. The object itself only remembers how many batches were *consumed*, which a
    loader that prefetches must report through ``advance``.

    Args:
        n_labelled: size of the labelled dataset, >= 1.
        labelled_batch: labelled images per batch, >= 1.
        replay_weights: (N,) >= 0, drawing weight of each replay image; empty or all 0 = no replay.
        share: replay / (replay + labelled), in [0, 1). Raising it costs time per step and shifts
            training towards the video; 0.5 as in self-training with alternating batches
            (arXiv 1904.07305). Fractions of an image are spread over the batches of an epoch.
        seed: >= 0.
        round_index: mining round that ``replay_weights`` belong to, >= 0.
        batches_per_epoch: None = n_labelled // labelled_batch, at least 1. A larger number goes on
            with further permutations of the labelled images.

    Raises:
        HemError: on a value outside its range.
    """

    def __init__(
        self,
        n_labelled: int,
        labelled_batch: int,
        replay_weights: Sequence[float] | NDArray[np.float64] = (),
        share: float = 0.5,
        seed: int = 0,
        round_index: int = 0,
        batches_per_epoch: int | None = None,
    ) -> None:
        if n_labelled < 1:
            raise HemError(f"there are {n_labelled} labelled images; training needs at least one")
        if labelled_batch < 1 or (batches_per_epoch is not None and batches_per_epoch < 1):
            raise HemError("labelled_batch and batches_per_epoch must be >= 1")
        if not 0 <= share < 1:
            raise HemError(f"replay share must lie in [0, 1), got {share}")
        if seed < 0:
            raise HemError(f"seed must be >= 0, got {seed}")
        self.n_labelled, self.labelled_batch = n_labelled, labelled_batch
        self.share, self.seed = float(share), seed
        self.batches_per_epoch = batches_per_epoch or max(1, n_labelled // labelled_batch)
        self.epoch, self.consumed = 0, 0
        self.use_round(replay_weights, round_index)

    def use_round(self, replay_weights: Sequence[float] | NDArray[np.float64], round_index: int) -> None:
        """Swap in the weights of another replay set; the labelled stream does not change."""
        weights = np.asarray(replay_weights, dtype=np.float64).reshape(-1)
        if not np.isfinite(weights).all() or (weights < 0).any():
            raise HemError("replay weights must be finite and >= 0")
        if round_index < 0:
            raise HemError(f"round must be >= 0, got {round_index}")
        self.round_index = round_index
        self._edges = np.cumsum(weights)
        self._last = int(np.flatnonzero(weights)[-1]) if weights.any() else -1

    def __len__(self) -> int:
        return self.batches_per_epoch

    def replay_count(self, k: int) -> int:
        """Return how many replay images batch ``k`` holds (0 without a replay set)."""
        if self._last < 0:
            return 0
        # 1e-9: a rate that is whole in arithmetic must not fall just below it in floating point
        rate = self.labelled_batch * self.share / (1 - self.share) + 1e-9
        return math.floor((k + 1) * rate) - math.floor(k * rate)

    def batch(self, epoch: int, k: int) -> BatchPlan:
        """Return batch ``k`` (from 0) of ``epoch`` (from 0).

        Raises:
            HemError: if ``k`` is not in [0, len) or ``epoch`` is negative.
        """
        if not 0 <= k < self.batches_per_epoch or epoch < 0:
            raise HemError(f"no batch {k} in epoch {epoch}: an epoch has {self.batches_per_epoch}")
        first = k * self.labelled_batch
        positions = range(first, first + self.labelled_batch)
        indices = [self._labelled_index(epoch, position) for position in positions]
        seeds = _random(self.seed, _LABELLED, epoch, k).integers(_SEED_END, size=len(indices))
        labelled = tuple(zip(indices, seeds.tolist(), strict=True))
        return BatchPlan(labelled, self._replay(epoch, k))

    def _labelled_index(self, epoch: int, position: int) -> int:
        cycle, place = divmod(position, self.n_labelled)
        return int(_permutation(self.seed, epoch, cycle, self.n_labelled)[place])

    def _replay(self, epoch: int, k: int) -> tuple[tuple[int, int], ...]:
        count = self.replay_count(k)
        if count == 0:
            return ()
        random = _random(self.seed, _REPLAY, self.round_index, epoch, k)
        points = random.random(count) * self._edges[-1]
        # side="right": an image of weight 0 has no width and is never hit; the last guards rounding
        indices = np.minimum(np.searchsorted(self._edges, points, side="right"), self._last)
        seeds = random.integers(_SEED_END, size=count)
        return tuple(zip(indices.tolist(), seeds.tolist(), strict=True))

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of ``epoch``; a no-op if that is the current one (a resume keeps its place)."""
        if epoch != self.epoch:
            self.epoch, self.consumed = epoch, 0

    def __iter__(self) -> Iterator[BatchPlan]:
        """Yield the current epoch's plans from the first that was not consumed."""
        epoch, first = self.epoch, self.consumed
        for k in range(first, self.batches_per_epoch):
            yield self.batch(epoch, k)

    def advance(self, batches: int = 1) -> None:
        """Count batches as consumed (trained on); at the end of an epoch go to the next.

        Raises:
            HemError: if more are reported than the epoch has left.
        """
        consumed = self.consumed + batches
        if batches < 0 or consumed > self.batches_per_epoch:
            raise HemError(f"{consumed} batches consumed, but an epoch has {self.batches_per_epoch}")
        self.consumed = consumed
        if consumed == self.batches_per_epoch:
            self.epoch, self.consumed = self.epoch + 1, 0

    def _identity(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "n_labelled": self.n_labelled,
            "labelled_batch": self.labelled_batch,
            "batches_per_epoch": self.batches_per_epoch,
            "share": self.share,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the stream (epoch, consumed, round) and what it is a place in."""
        place = {"epoch": self.epoch, "consumed": self.consumed, "round_index": self.round_index}
        return {**self._identity(), **place}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved place; the replay set of the saved round must be in use already.

        Raises:
            HemError: if the stream differs (seed, sizes, share, round): its batches would not be
                the ones that follow.
        """
        mine = {**self._identity(), "round_index": self.round_index}
        differing = [f"{name}: {state.get(name)!r} saved, {value!r} now" for name, value in mine.items()
                     if state.get(name) != value]  # fmt: skip
        if differing:
            raise HemError("cannot resume the batch stream, it has changed: " + "; ".join(differing))
        self.epoch, self.consumed = int(state["epoch"]), int(state["consumed"])
