"""Weights from files and by name, and what to say when they do not fit."""

import importlib
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from hem.artifacts import whole_file
from hem.errors import HemError

if TYPE_CHECKING:
    from hem.detectors.protocol import Detector

T = TypeVar("T")

_SCHEMA = "hem/detector/1"
# Layers whose shape follows the number of classes, by the names torchvision and transformers give them.
_CLASS_LAYERS = (
    *("cls_score", "bbox_pred", "cls_logits", "classification_head.module_list"),
    *("class_embed", "enc_score_head"),
)


def read_file(path: Path) -> dict[str, Any]:
    """Return the mapping stored in a checkpoint, tensors on the CPU, nothing executed.

    Raises:
        HemError: if the file is absent, damaged, needs code to be run, or holds no mapping.
    """
    if not path.is_file():
        raise HemError(f"weights: {path} is not there")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # what torch says of it advises to run the file's code
        raise HemError(
            f"weights: {path} is no file of torch, or holds more than tensors and plain values; save it "
            "again as a state_dict with torch.save(model.state_dict(), …) in the program that made it"
        ) from None
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        raise HemError(
            f"weights: {path} is damaged or no PyTorch file: {str(error).splitlines()[0]}"
        ) from None
    if not isinstance(found, Mapping):
        raise HemError(
            f"weights: {path} holds a {type(found).__name__}, expected a state_dict or a checkpoint"
        )
    return dict(found)


def read_weights(path: Path) -> dict[str, Any]:
    """Return ``{"state_dict": …, "class_names": … or None}`` from any kind of checkpoint."""
    found = read_file(path)
    described = found.get("hem_detector") or {}
    settings = described.get("settings", {}) if isinstance(described, Mapping) else {}
    state = next((found[key] for key in ("state_dict", "model", "model_state") if key in found), found)
    if not isinstance(state, Mapping):
        raise HemError(f"weights: {path} holds no state_dict")
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise HemError(f"weights: {path} holds no tensors; its keys are {sorted(map(str, found))[:8]}")
    return {"state_dict": tensors, "class_names": settings.get("class_names")}


def find_prefix(own: Sequence[str], names: Sequence[str]) -> str:
    """Return what stands before the network's own names in ``names`` (most matches win).

    A student is preferred to a teacher kept beside it in the same file.
    """
    wanted, counts = set(own), dict[str, int]()
    for name in names:
        parts = name.split(".")
        for cut in range(len(parts)):
            if ".".join(parts[cut:]) in wanted:
                prefix = ".".join(parts[:cut])
                counts[prefix] = counts.get(prefix, 0) + 1
    if not counts:
        return ""
    best = max(counts, key=lambda p: (counts[p], "teacher" not in p and "ema" not in p, -len(p)))
    return best + "." if best else ""


def load_into(
    net: nn.Module,
    found: Mapping[str, Any],
    *,
    source: str,
    class_names: Sequence[str] = (),
    prefix: str | None = None,
    replace_head: bool = False,
) -> None:
    """Load a state_dict into a torchvision network; every tensor must find its place.

    Args:
        net: the network; its own load hooks translate names of older torchvision releases.
        found: what read_weights returned.
        source: file or name, for messages.
        class_names: the detector's, compared with the file's where it names any.
        prefix: see Detector.load_weights.
        replace_head: leave out the layers that depend on the classes where they differ.

    Raises:
        HemError: other classes or another architecture; the message names the difference.
    """
    own = net.state_dict()
    if prefix is None:
        prefix = find_prefix(list(own), list(found["state_dict"]))
    state = OrderedDict(
        (name.removeprefix(prefix), value)
        for name, value in found["state_dict"].items()
        if name.startswith(prefix)
    )
    theirs = found.get("class_names")
    other_names = theirs is not None and bool(class_names) and tuple(theirs) != tuple(class_names)
    other_shape = [name for name, value in state.items() if name in own and own[name].shape != value.shape]
    classes = {name for name in own if any(part in name for part in _CLASS_LAYERS)}
    _refuse_shapes(own, state, [name for name in other_shape if name not in classes], source)
    heads = [name for name in state if name in classes and (other_names or name in other_shape)]
    theirs_of = {name: tuple(state[name].shape) for name in heads}
    for name in heads:
        state[name] = own[name]
    _load_strictly(net, own, state, source)
    if not heads or replace_head:
        return
    if theirs is not None and other_names:
        what = f"was trained for classes {list(theirs)}, the detector is built for {list(class_names)}"
    else:
        what = (
            f"has other classes: {heads[0]} is {theirs_of[heads[0]]} there and {tuple(own[heads[0]].shape)} "
            f"here ({len(class_names)} classes: {', '.join(class_names)})"
        )
    raise HemError(
        f"weights: {source} {what}; give the detector the file's classes, or set detector.replace_head=true "
        "to load all but the class layers"
    )


def _refuse_shapes(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], names: Sequence[str], source: str
) -> None:
    if names:
        listed = "; ".join(
            f"{n} {tuple(state[n].shape)} there, {tuple(own[n].shape)} here" for n in names[:3]
        )
        raise HemError(
            f"weights: {source} is of another architecture ({len(names)} tensors of other shape: {listed}); "
            "choose the detector config it was trained with"
        )


def _load_strictly(
    net: nn.Module, own: Mapping[str, Tensor], state: "OrderedDict[str, Tensor]", source: str
) -> None:
    try:
        missing, unexpected = net.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise HemError(
            f"weights: {source} does not fit: {str(error).splitlines()[-1].strip()}; "
            "choose the detector config it was trained with"
        ) from None
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    unexpected = [name for name in unexpected if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise HemError(
            f"weights: {source} is of another architecture: {len(missing)} of {len(own)} tensors are missing "
            f"({', '.join(missing[:3]) or 'none'}), {len(unexpected)} are not known here "
            f"({', '.join(unexpected[:3]) or 'none'}); choose the detector config it was trained with"
        )


def load_matching(net: nn.Module, path: Path, prefix: str | None = None) -> tuple[int, int, int]:
    """Load the tensors of a foreign checkpoint that fit ``net`` by name and shape.

    Returns:
        how many of the network's tensors were matched, how many were not, and how many of the
        file's tensors under the prefix were left over.

    Raises:
        HemError: if fewer than half of the network's tensors find a match, which means the file is
            of another network.
    """
    found = read_weights(path)["state_dict"]
    own = net.state_dict()
    if prefix is None:
        prefix = find_prefix(list(own), list(found))
    state = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
    fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    if 2 * len(fitting) < len(own):
        examples = ", ".join(list(found)[:3])
        raise HemError(
            f"backbone_weights: {path} fits only {len(fitting)} of the backbone's {len(own)} tensors under "
            f"prefix {prefix!r} (its first keys: {examples}); set backbone_weights_prefix, or choose the "
            "backbone it was trained with"
        )
    net.load_state_dict(fitting, strict=False)
    return len(fitting), len(own) - len(fitting), len(state) - len(fitting)


def fetch(what: str, key: str, get: Callable[[], T]) -> T:
    """Return ``get()``, which may download; without a network, say how to use a local file.

    Args:
        what: what is wanted, for the message.
        key: the config key that takes a path, such as ``detector.weights``.
        get: the download.

    Raises:
        HemError: if it cannot be fetched or no such name exists.
    """
    try:
        return get()
    except (KeyError, ValueError, AttributeError) as error:
        raise HemError(f"{key}: {what} is not known: {str(error).splitlines()[0]}") from None
    except Exception as error:  # every client has network errors of its own, up to bare Exception
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise HemError(
            f"{key}: {what} could not be downloaded ({reason}). Without a network, copy the file here "
            f"and give its path: {key}=/path/to/file.pth, or {key}=null to start without"
        ) from None


def looks_like_path(value: str) -> bool:
    """Return True if a weights setting means a file rather than a published name."""
    return "/" in value or "\\" in value or Path(value).suffix in {".pt", ".pth", ".ckpt", ".bin", ".tar"}


def save_detector(path: Path, detector: "Detector") -> None:
    """Write a detector with its settings, atomically; load_detector reads it back."""
    payload = {
        "schema": _SCHEMA,
        "hem_detector": detector.describe(),
        "state_dict": detector.net.state_dict(),
    }
    with whole_file(path) as temporary:
        torch.save(payload, temporary)


def load_detector(path: Path | str, *, prefix: str | None = None) -> "Detector":
    """Rebuild a detector from a file that says how it was built.

    Takes what save_detector wrote, and any checkpoint with Detector.describe() under
    ``hem_detector`` (hem's training puts it there).

    Args:
        path: the file.
        prefix: as in Detector.load_weights; ``teacher.`` for instance.

    Raises:
        HemError: if the file does not say how the detector was built.
    """
    described = read_file(Path(path)).get("hem_detector")
    if not isinstance(described, Mapping) or not str(described.get("target", "")).startswith(
        "hem.detectors."
    ):
        raise HemError(
            f"weights: {path} does not say which detector it belongs to; choose detector=… and give the file "
            "as detector.weights"
        )
    module, name = str(described["target"]).rsplit(".", 1)
    without = ("weights", "backbone_weights")
    settings = {name: None if name in without else value for name, value in described["settings"].items()}
    kind = getattr(importlib.import_module(module), name)
    detector: Detector = kind(**settings)
    detector.load_weights(path, prefix=prefix)
    return detector
