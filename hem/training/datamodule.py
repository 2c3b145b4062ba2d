"""Labelled images, and mined frames on top of them, as Lightning batches."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from hem.replay.sampler import BatchPlan, MixedBatches
from hem.structures import ImageSource, LabelledImage

Augmentation = Callable[..., LabelledImage]
"""Called with (sample, generator); if its ``needs_draw`` is true also with draw: generator -> a sample."""


class PlannedSamples(Dataset[LabelledImage]):
    """Looks one planned draw up and augments it with the draw's own seed.

    A draw is (from_replay, index, seed): the image, and the seed of everything random done to it, so
    the sample does not depend on the process that loads it. An augmentation that joins images (a
    mosaic) draws the others from where the first came from, with the same seed: labelled images meet
    labelled images only, so that what a labelled draw gives never depends on what was mined.

    Args:
        labelled: the labelled images.
        replay: the mined frames, or None.
        augment: applied to each, or None.
        replay_weights: (len(replay),), how likely each mined frame is to be drawn into a mosaic, as
            for the batches themselves; empty for all alike.
    """

    def __init__(
        self,
        labelled: ImageSource,
        replay: ImageSource | None,
        augment: Augmentation | None,
        replay_weights: Sequence[float] = (),
    ) -> None:
        self.labelled = labelled
        self.replay = replay
        self.augment = augment
        self.replay_weights = torch.tensor(replay_weights, dtype=torch.float64)

    def __getitem__(self, draw: tuple[bool, int, int]) -> LabelledImage:
        from_replay, index, seed = draw
        sample = self._source(from_replay)[index]
        if self.augment is None:
            return sample
        generator = torch.Generator().manual_seed(seed)
        if not getattr(self.augment, "needs_draw", False):
            return self.augment(sample, generator)
        return self.augment(sample, generator, partial(self._another, from_replay))

    def _source(self, from_replay: bool) -> ImageSource:
        source = self.replay if from_replay else self.labelled
        assert source is not None
        return source

    def _another(self, from_replay: bool, generator: torch.Generator) -> LabelledImage:
        """Return one more image of the same kind, drawn by ``generator``."""
        source = self._source(from_replay)
        if from_replay and len(self.replay_weights):
            return source[int(torch.multinomial(self.replay_weights, 1, generator=generator))]
        return source[int(torch.randint(len(source), (), generator=generator))]


class MixedLoader:
    """The train loader: batch k of an epoch is a pure function of (seed, round, epoch, k).

    Its state is the place that training reached in ``plans``, so a run resumed in the middle of an
    epoch goes on with the next batch (a plain DataLoader would repeat the first ones).

    Args:
        samples: where draws are looked up.
        plans: what each batch holds, at the epoch to serve.
        workers: loader processes; 0 loads in this one.
    """

    def __init__(self, samples: PlannedSamples, plans: MixedBatches, workers: int) -> None:
        self.samples = samples
        self.plans = plans
        self.workers = workers
        self.sampler = self  # Lightning tells a loader's sampler which epoch is about to run

    def __len__(self) -> int:
        return len(self.plans)

    def set_epoch(self, epoch: int) -> None:
        """Serve ``epoch`` from its start; the epoch already being served keeps its place."""
        self.plans.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[LabelledImage]]:
        loader = DataLoader(
            self.samples,
            batch_sampler=[draws(plan) for plan in self.plans],
            num_workers=self.workers,
            collate_fn=list,
            multiprocessing_context="spawn" if self.workers else None,
        )
        for batch in loader:
            self.plans.advance()
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the stream; see MixedBatches."""
        return self.plans.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the batches that ``state`` says were consumed; a finished epoch is left behind.

        Raises:
            HemError: if training stopped in the middle of an epoch of another stream.
        """
        if state["consumed"]:  # between epochs there is no place to keep, and the next round may differ
            self.plans.load_state_dict(state)


def draws(plan: BatchPlan) -> list[tuple[bool, int, int]]:
    """Return a plan as draws, labelled images first."""
    labelled = [(False, index, seed) for index, seed in plan.labelled]
    return labelled + [(True, index, seed) for index, seed in plan.replay]


class LabelledReplayData(pl.LightningDataModule):
    """Labelled images, and whatever was mined so far.

    Args:
        labelled: the labelled training images.
        augment: applied to both kinds of image, or None.
        batch_size: labelled images a batch; replay images come on top.
        batches_per_epoch: batches between two chances to mine.
        replay_share: replay / (replay + labelled) once something was mined, in [0, 1).
        seed: of the whole stream. Arms with one seed draw the same labelled images, whatever they mine.
        workers: loader processes.
    """

    def __init__(
        self,
        labelled: ImageSource,
        augment: Augmentation | None,
        batch_size: int,
        batches_per_epoch: int,
        replay_share: float = 0.5,
        seed: int = 0,
        workers: int = 0,
    ) -> None:
        super().__init__()
        self.labelled = labelled
        self.augment = augment
        self.batch_size = batch_size
        self.batches_per_epoch = batches_per_epoch
        self.replay_share = replay_share
        self.seed = seed
        self.workers = workers
        self.replay: ImageSource | None = None
        self.replay_weights: Sequence[float] = ()
        self.round = 0

    def set_replay(self, replay: ImageSource | None, weights: Sequence[float], round_index: int) -> None:
        """Swap mined frames in; they are drawn from the next epoch's loader on."""
        self.replay = replay if len(weights) else None
        self.replay_weights = tuple(weights) if self.replay is not None else ()
        self.round = round_index

    def train_dataloader(self) -> MixedLoader:
        """Return the loader of the trainer's current epoch."""
        plans = MixedBatches(
            n_labelled=len(self.labelled),
            labelled_batch=self.batch_size,
            replay_weights=self.replay_weights,
            share=self.replay_share,
            seed=self.seed,
            round_index=self.round,
            batches_per_epoch=self.batches_per_epoch,
        )
        plans.set_epoch(self.trainer.current_epoch if self.trainer is not None else 0)
        samples = PlannedSamples(self.labelled, self.replay, self.augment, self.replay_weights)
        return MixedLoader(samples, plans, self.workers)
