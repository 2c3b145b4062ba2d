"""Where a run's figures go besides its directory: W&B, TensorBoard on request."""

import importlib.util
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pytorch_lightning.loggers import Logger, TensorBoardLogger

from hem.artifacts import load_examples, read_json
from hem.artifacts.places import read_stages
from hem.config import LoggerConfig
from hem.errors import HemError
from hem.reporting.wandb_log import WandbLog, open_wandb

_FIGURES_S = 30.0  # at most, for what is still to be sent when the run ends
_ARTIFACTS_S = 900.0  # checkpoints take longer, and whoever asks for them wants them whole


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

    It begins with the first stage, so that a configuration, data or videos that are refused leave none.

    Args:
        settings: the ``logger`` group.
        run: the run directory.
        name, seed, config: what the run is.

    Raises:
        HemError: if TensorBoard is asked for and not installed.
    """

    def __init__(
        self, settings: LoggerConfig, run: Path, *, name: str, seed: int, config: Mapping[str, Any]
    ) -> None:
        if settings.tensorboard and not importlib.util.find_spec("tensorboard"):
            raise HemError(
                "logger.tensorboard=true needs a package that is not installed: pip install "
                "'hem-video[tensorboard]', or leave it out (every stage writes CSV files in any case)"
            )
        self._settings = settings
        self._run = run
        self._about: dict[str, Any] = {"group": name, "name": f"{name}-seed{seed}", "config": config}

    @cached_property
    def _log(self) -> WandbLog:
        settings = self._settings
        return open_wandb(
            settings.mode,
            self._run,
            project=settings.project,
            connect_timeout_s=settings.connect_timeout_s,
            max_pictures=settings.max_pictures,
            **self._about,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if "_log" in vars(self):
            self._log.finish(_ARTIFACTS_S if self._settings.artifacts else _FIGURES_S)

    def loggers(self, stage: str) -> list[Logger]:
        """Return the Lightning loggers of one stage, besides its CSV file."""
        chosen: list[Logger] = [_StageLogger(self._log, stage)] if self._log.active else []
        if self._settings.tensorboard:
            chosen.append(TensorBoardLogger(self._run / "tensorboard", name=stage, version=""))
        return chosen

    def finished(self, summary: Mapping[str, Any], pictures: Mapping[str, bytes]) -> None:
        """Log the comparison, every arm's figures, what was mined, curves, pictures, and artifacts if asked.

        Args:
            summary: as in ``summary.json``.
            pictures: JPEG by caption; boxes are drawn in the colours of hem.reporting.strips.
        """
        if not self._log.active:
            return
        self._log.comparison(summary)
        self._log.summary({**_arm_figures(summary), **_mining_figures(summary), **self._weights()})
        self._curves()
        self._log.pictures("mined", pictures)
        for path, name, kind in self._artifacts(summary):
            self._log.artifact(path, name, kind)

    def _weights(self) -> dict[str, float]:
        """Return the mean weight of the chosen preset's examples by kind."""
        path = self._run / "hard_examples.parquet"
        weights: dict[str, list[float]] = {}
        for example in load_examples(path)[0] if path.is_file() else ():
            weights.setdefault(example.kind.value, []).append(example.weight)
        return {f"mining/mean_weight_{kind}": sum(all_) / len(all_) for kind, all_ in weights.items()}

    def _curves(self) -> None:
        path = self._run / "measured.json"
        if not path.is_file():
            return
        measured = read_json(path, "measured")
        columns = ["arm", "recall", "precision", "false_alarms_per_minute", "threshold"]
        rows = [
            [arm, *point]
            for arm, curve in measured["curves"].items()
            for point in zip(*(curve[name] for name in (*columns[1:4], "thresholds")), strict=True)
        ]
        if rows:
            self._log.table("curves", columns, rows)
        mined = [
            [kind, *point]
            for kind, curve in measured["purity_yield"].items()
            for point in zip(curve["count"], curve["purity"], strict=True)
        ]
        if mined:
            self._log.table("purity_against_yield", ["kind", "mined", "purity"], mined)

    def _artifacts(self, summary: Mapping[str, Any]) -> list[tuple[Path, str, str]]:
        """Return (path, name, kind) of what the settings ask to keep in W&B."""
        path = self._run / "stages.json"
        if not self._settings.artifacts or not path.is_file():
            return []
        start = f"{summary['name']}-seed{summary['seed']}"
        checkpoints: dict[str, Path] = read_stages(self._run)["checkpoints"]
        found: list[tuple[Path, str, str]] = []
        for arm, checkpoint in checkpoints.items():
            if "checkpoints" in self._settings.artifacts:
                found.append((checkpoint, f"{start}-{arm}-checkpoint", "model"))
            if "replay" in self._settings.artifacts:
                rounds = sorted((checkpoint.parent / "replay").glob("round_*"))
                found += [(one, f"{start}-{arm}-{one.name}", "replay") for one in rounds]
        return found


def _arm_figures(summary: Mapping[str, Any]) -> dict[str, float | int]:
    return {
        f"{arm}/{figure}": value
        for arm, figures in summary["arms"].items()
        for figure, value in figures.items()
        if isinstance(value, int | float)
    }


def _mining_figures(summary: Mapping[str, Any]) -> dict[str, float | int]:
    """Return counts and purity: of the chosen preset under ``mining/``, of each arm under its name."""
    parts = {"mining": summary["mining"], **_named(summary.get("mining_by_arm") or {})}
    return {
        f"{name}/{key}": value
        for name, figures in parts.items()
        for key, value in figures.items()
        if isinstance(value, int | float)
    }


def _named(by_arm: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {f"{arm}/mining": figures for arm, figures in by_arm.items()}
