"""Mining between epochs: the teacher runs over the videos, and the next epochs replay what it got wrong."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from hem.config import RoundsConfig
from hem.detectors.protocol import Detector
from hem.errors import HemError
from hem.replay.dataset import ReplayDataset
from hem.replay.round import ReplayRound, load_round
from hem.training.datamodule import LabelledReplayData
from hem.training.module import DetectionModule

MineRound = Callable[[Detector, int, Path], ReplayRound]
"""(teacher, round from 1, directory to write) -> the finished round."""
OpenReplay = Callable[[Sequence[ReplayRound]], ReplayDataset]
RoundReport = Callable[[int, ReplayRound], None]


class MiningCallback(pl.Callback):
    """Mines in ``on_train_epoch_end``, before checkpoints are written (first round: see ``rounds``).

    Lightning asks for the train loader before ``on_train_epoch_start``, so anything mined there would
    come an epoch late. With ``start_epoch`` 0 the first round is mined in ``on_fit_start``.

    Args:
        data: the data module whose batches will hold what is mined.
        mine: collects evidence with a teacher, applies the rules and writes the round.
        open_replay: makes the dataset over all rounds so far.
        directory: where rounds are written, ``round_001`` …; each appears whole or not at all.
        rounds: when to mine and with which weights.
        report: told of every finished round.
    """

    def __init__(
        self,
        data: LabelledReplayData,
        mine: MineRound,
        open_replay: OpenReplay,
        directory: Path,
        rounds: RoundsConfig,
        report: RoundReport | None = None,
    ) -> None:
        self.data = data
        self.mine = mine
        self.open_replay = open_replay
        self.directory = directory
        self.settings = rounds
        self.report = report
        self.rounds: list[ReplayRound] = []

    @property
    def state_key(self) -> str:
        """One name in checkpoints, whatever the arguments."""
        return "hem_mining"

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Mine round 1 before the first step, or take up the rounds of a resumed run."""
        if self.rounds:
            self._replay()
        elif self.settings.start_epoch == 0:
            self._mine(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Mine for the epochs to come, unless training is over."""
        upcoming = trainer.current_epoch + 1
        since = upcoming - self.settings.start_epoch
        over = trainer.global_step >= trainer.max_steps
        due = since >= 0 and since % self.settings.every_n_epochs == 0
        if due and not over and len(self.rounds) < self.settings.max_rounds:
            self._mine(trainer, pl_module)

    def _mine(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, DetectionModule)
        index = len(self.rounds) + 1
        path = self.directory / f"round_{index:03d}"
        if path.exists():  # left by a run that was killed after the round, before the checkpoint
            shutil.rmtree(path)
        teacher = pl_module.mining_detector(self.settings.teacher)
        self.rounds.append(self.mine(teacher, index, path))
        pl_module.train()
        self._replay()
        if self.report:
            self.report(index, self.rounds[-1])

    def _replay(self) -> None:
        dataset = self.open_replay(self.rounds)
        self.data.set_replay(dataset, dataset.weights.tolist(), len(self.rounds))

    def state_dict(self) -> dict[str, Any]:
        """Return each round's directory name and digest."""
        return {"rounds": [{"name": r.directory.name, "digest": r.digest} for r in self.rounds]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Open the rounds of a checkpoint again.

        Raises:
            HemError: if a round is gone or is not the one the checkpoint was trained with.
        """
        self.rounds = []
        for saved in state_dict["rounds"]:
            found = load_round(self.directory / saved["name"])
            if found.digest != saved["digest"]:
                raise HemError(f"{found.directory} is not the round this checkpoint was trained with")
            self.rounds.append(found)
