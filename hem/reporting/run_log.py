"""Where a run's figures go besides its directory: W&B, TensorBoard on request."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pytorch_lightning.loggers import Logger, TensorBoardLogger

from hem.config import LoggerConfig
from hem.reporting.wandb_log import WandbLog, open_wandb


class _StageLogger(Logger):
    """Hands one stage's Lightning metrics to the run's W&B log, under the stage's name."""

    def __init__(self, log: WandbLog, stage: str) -> None:
        super().__init__()
        self._log = log
        self._stage = stage

    @property
    def name(self) -> str:
        """The stage."""
        return self._stage

    @property
    def version(self) -> str:
        """Stages have no versions."""
        return ""

    def log_hyperparams(self, *args: object, **kwargs: object) -> None:
        """Do nothing: the run's configuration is logged once."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log under ``<stage>/``, with the stage's own step beside it (W&B's step only ever rises)."""
        values: dict[str, float | int | None] = {f"{self._stage}/{k}": float(v) for k, v in metrics.items()}
        self._log.log({**values, f"{self._stage}/step": step})


class RunLog(AbstractContextManager["RunLog"]):
    """One run in W&B; runs of one experiment, whatever their seeds, form a group.

    Args:
        settings: the ``logger`` group.
        run: the run directory.
        name, seed, config: what the run is.
    """

    def __init__(
        self, settings: LoggerConfig, run: Path, *, name: str, seed: int, config: Mapping[str, Any]
    ) -> None:
        self._settings = settings
        self._run = run
        self._log = open_wandb(
            settings.mode,
            run,
            project=settings.project,
            group=name,
            name=f"{name}-seed{seed}",
            config=config,
            connect_timeout_s=settings.connect_timeout_s,
            max_pictures=settings.max_pictures,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._log.finish()

    def loggers(self, stage: str) -> list[Logger]:
        """Return the Lightning loggers of one stage, besides its CSV file."""
        chosen: list[Logger] = [_StageLogger(self._log, stage)] if self._log.active else []
        if self._settings.tensorboard:
            chosen.append(TensorBoardLogger(self._run / "tensorboard", name=stage, version=""))
        return chosen

    def finished(self, summary: Mapping[str, Any], pictures: Mapping[str, bytes]) -> None:
        """Log the comparison table, every arm's figures, what was mined, and some pictures."""
        self._log.comparison(summary)
        flat = {
            f"{arm}/{figure}": value
            for arm, figures in summary["arms"].items()
            for figure, value in figures.items()
            if value is None or isinstance(value, int | float)
        }
        mining = {f"mining/{k}": v for k, v in summary["mining"].items() if isinstance(v, int | float)}
        self._log.summary({**flat, **mining})
        for caption, data in pictures.items():
            if not self._log.picture("mined", data, caption):
                break
