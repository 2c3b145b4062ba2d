"""Detector checkpoints that say what they hold, and load without running anything from the file."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hem.artifacts import sha256_file, whole_file
from hem.detectors.protocol import Detector
from hem.errors import HemError
from hem.instantiate import instantiate, locate

SCHEMA = "hem/checkpoint/1"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        detector: the configuration that builds the network.
        class_names: names of labels 1, 2, ….
        state: the network's weights.
        made_by: digests and settings of what made it.
        digest: sha256 of the file.
    """

    detector: dict[str, Any]
    class_names: tuple[str, ...]
    state: dict[str, torch.Tensor]
    made_by: dict[str, Any]
    digest: str


def save_checkpoint(
    path: Path, detector: Detector, config: Mapping[str, Any], made_by: Mapping[str, Any]
) -> None:
    """Write a detector's weights with the configuration that rebuilds it."""
    state = {name: value.detach().cpu().contiguous() for name, value in detector.state_dict().items()}
    document = {
        "schema": SCHEMA,
        "detector": detector.decided(config),
        "class_names": list(detector.class_names),
        "state_dict": state,
        "made_by": dict(made_by),
    }
    # not by name: torch writes the name into the file, and equal weights should be equal files
    with whole_file(path) as temporary, temporary.open("wb") as file:
        torch.save(document, file)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        HemError: if the file is absent, damaged, or was not written by hem.
    """
    if path.is_dir():
        raise HemError(f"checkpoint {path} is a folder; a run names its checkpoints in stages.json: give one")
    if not path.is_file():
        raise HemError(f"checkpoint {path} is not there")
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # what torch says of it advises to run the file's code
        raise HemError(
            f"checkpoint {path} is damaged, or no checkpoint of hem: those are the checkpoint.pt that "
            "hem.train leaves for each arm (a run's stages.json names them), which hold weights and settings "
            "alone; weights of another program are given as detector.weights=FILE to hem.train"
        ) from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise HemError(
            f"checkpoint {path} was not written by hem; to start from weights of another program, "
            "give them as detector.weights=FILE together with the detector's configuration"
        )
    if missing := sorted({"detector", "class_names", "state_dict", "made_by"} - set(document)):
        raise HemError(f"checkpoint {path} is damaged or of another version: it lacks {missing}")
    return Checkpoint(
        detector=document["detector"],
        class_names=tuple(document["class_names"]),
        state=document["state_dict"],
        made_by=document["made_by"],
        digest=sha256_file(path),
    )


def detector_from(checkpoint: Checkpoint, path: Path, class_names: tuple[str, ...] | None = None) -> Detector:
    """Rebuild the detector of a checkpoint.

    Args:
        checkpoint: what load_checkpoint gave.
        path: its file, for messages.
        class_names: the classes the caller works with, or None for whatever it knows.

    Raises:
        HemError: if the classes differ, or the weights do not fit the configuration stored with them.
    """
    if class_names is not None and tuple(class_names) != checkpoint.class_names:
        raise HemError(
            f"checkpoint {path} knows the classes {list(checkpoint.class_names)}, but the data has "
            f"{list(class_names)}; choose a checkpoint of these classes, or train one (checkpoint=null)"
        )
    config = untrained(checkpoint.detector)
    _refuse_code(config, path)
    detector = instantiate(config, "checkpoint.detector", Detector, class_names=checkpoint.class_names)
    try:
        detector.load_state_dict(checkpoint.state)
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise HemError(
            f"checkpoint {path}: its weights do not fit its detector: {lines[-1].strip()}"
        ) from None
    return detector.eval()


def _refuse_code(config: Mapping[str, Any], path: Path) -> None:
    """Let a file name the class of its detector, and nothing else that would be called."""

    def names_code(value: object) -> bool:
        if isinstance(value, Mapping):
            return "_target_" in value or any(map(names_code, value.values()))
        return isinstance(value, list | tuple) and any(map(names_code, value))

    nested = sorted(name for name, value in config.items() if names_code(value))
    if nested:
        raise HemError(f"checkpoint {path} names code to be called in {nested}; no checkpoint of hem does")
    target = str(config.get("_target_"))
    found = locate(target, "checkpoint.detector", Detector)
    if not (inspect.isclass(found) and issubclass(found, Detector)):
        raise HemError(f"checkpoint {path}: {target} is no detector")


def untrained(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a detector's configuration without the weights it once started from."""
    return {
        name: None if name in ("weights", "backbone_weights") else value for name, value in config.items()
    }
