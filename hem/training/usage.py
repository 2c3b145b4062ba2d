"""When a mined frame was trained on: batches are a pure function of settings, so it can be worked out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hem.artifacts import read_json
from hem.config import ReplayConfig, RoundsConfig
from hem.errors import HemError
from hem.replay.dataset import ReplayDataset
from hem.replay.sampler import MixedBatches
from hem.replay.stored import ReplayRound, load_rounds
from hem.structures import Kind
from hem.training.stages import STAGE_FILE


@dataclass(frozen=True)
class Usage:
    """How one arm used one frame.

    Attributes:
        rounds: mining rounds whose stored frames hold it.
        steps: optimiser steps (from 1) whose batch held it, rising; one number for each draw.
        total_steps: optimiser steps of the arm's extra training.
    """

    rounds: tuple[int, ...]
    steps: tuple[int, ...]
    total_steps: int


def rounds_by_epoch(settings: RoundsConfig, epochs: int) -> list[int]:
    """Return, for each epoch, how many rounds had been mined when it began (see MiningCallback)."""
    mined = int(settings.start_epoch == 0)
    found = []
    for epoch in range(epochs):
        found.append(mined)
        since = epoch + 1 - settings.start_epoch
        if since >= 0 and since % settings.every_n_epochs == 0 and mined < settings.max_rounds:
            mined += 1
    return found


def usage_of(arm: Path, video_id: str, frame_index: int) -> Usage | None:
    """Return how a finished arm used a frame; None if the arm mined nothing.

    Args:
        arm: the folder of the finished stage.
        video_id, frame_index: the frame.

    Raises:
        HemError: if the folder is not a finished stage, or a round of it is damaged.
    """
    made_from: Mapping[str, Any] = read_json(arm / STAGE_FILE, "stage")["made_from"]
    if "replay" not in made_from:
        return None
    stage = made_from["stage"]
    rounds = load_rounds(arm / "replay", as_written=True)
    return Usage(
        tuple(one.index for one in rounds if any(f.key == (video_id, frame_index) for f in one.frames)),
        tuple(_steps(made_from, rounds, (video_id, frame_index))),
        int(stage["steps"]),
    )


def _steps(made_from: Mapping[str, Any], rounds: Sequence[ReplayRound], key: tuple[str, int]) -> list[int]:
    stage, replay = made_from["stage"], ReplayConfig(**made_from["replay"])
    accumulate = int(made_from["trainer"]["accumulate"])
    per_epoch, total = int(stage["steps_per_epoch"]), int(stage["steps"])
    kinds = tuple(Kind(kind) for kind in made_from["arm"]["kinds"])
    steps: list[int] = []
    plans: dict[int, tuple[MixedBatches, set[int]]] = {}
    for epoch, count in enumerate(
        rounds_by_epoch(RoundsConfig(**made_from["rounds"]), -(-total // per_epoch))
    ):
        if count > len(rounds):
            raise HemError(f"round {count} of {len(rounds)} is gone; which steps used a frame cannot be told")
        if count not in plans:
            dataset = ReplayDataset(
                rounds[:count], kinds=kinds, decay=replay.decay, video_balance=replay.video_balance
            )
            rows = {row for row in range(len(dataset)) if dataset.frame(row).key == key}
            # the labelled part of a batch does not matter here, so any number of images will do
            batches = MixedBatches(
                1, int(stage["batch_size"]), dataset.weights, replay.share, int(made_from["seed"]) + 1,
                count, per_epoch * accumulate,
            )  # fmt: skip
            plans[count] = batches, rows
        batches, rows = plans[count]
        for k in range(len(batches)):
            step = epoch * per_epoch + k // accumulate + 1
            drawn = sum(index in rows for index, _ in batches.batch(epoch, k).replay)
            steps += [step] * (drawn if step <= total else 0)
    return steps
