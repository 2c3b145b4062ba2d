"""Launchers of ``-m`` that are extras: said in one line when they are not installed."""

import importlib.util
import sys
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from hem.compose import EXIT_USER_ERROR

_EXTRAS = {"hydra_joblib_launcher": "joblib", "hydra_submitit_launcher": "slurm"}


class PluginCheck(Callback):
    """Says which extra to install when ``-m`` asks for a launcher or sweeper that is not there."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ANN401
        """End the command before anything is run if a plugin's package is missing."""
        for part in ("launcher", "sweeper"):
            missing = missing_package(str(config.hydra[part].get("_target_", "")))
            if missing is None:
                continue
            extra = _EXTRAS.get(missing)
            way_out = f"pip install 'hem-video[{extra}]'" if extra else "it is no part of hem"
            print(f"hem: hydra/{part} needs the package {missing}: {way_out}", file=sys.stderr, flush=True)
            raise SystemExit(EXIT_USER_ERROR)  # Hydra passes over any other exception of a callback


def missing_package(target: str) -> str | None:
    """Return the package under hydra_plugins that a plugin's class needs, if it is not installed."""
    parts = target.split(".")
    if len(parts) < 3 or parts[0] != "hydra_plugins":
        return None
    try:
        found = importlib.util.find_spec(".".join(parts[:2]))
    except ModuleNotFoundError:  # no plugin is installed at all
        found = None
    return None if found is not None else parts[1]
