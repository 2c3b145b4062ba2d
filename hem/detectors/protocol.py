"""The one face that every detector shows to the rest of hem."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from hem.artifacts import digest_of
from hem.detectors.asking import Asking
from hem.detectors.contract import to_labels
from hem.detectors.parts import Parts
from hem.detectors.weights import load_into, read_weights
from hem.errors import HemError
from hem.structures import Detections, Target

# Settings that say where weights came from or how they are trained, not what the network computes:
# two detectors that differ only here give the same boxes and so have the same digest.
_NOT_IN_DIGEST = frozenset(
    {"weights", "replace_head", "backbone_weights", "backbone_weights_prefix", "trainable_layers"}
)
# Settings that a detector decides from the weights it is given, where its configuration leaves them open.
_DECIDED = ("backbone_norm", "trainable_layers", "frozen_eps")


class Detector(nn.Module):
    """A network with its classes, preprocessing and losses.

    Images are uint8 (3, H, W), RGB, as decoded; scaling, normalising and resizing belong to the
    detector. Boxes are (left, top, right, bottom) in pixels of the image given.

    Attributes:
        net: the torchvision network; ``net.state_dict()`` is a plain torchvision state_dict.
        class_names: label i is ``class_names[i - 1]``.
        family: ``faster_rcnn``, ``retinanet``, ``fcos``, ``ssd`` or ``detr``.
        score_range: lowest and highest score it can give.
        doubles: whether a lone frame is asked about twice over, so that its answer rounds as in a batch.
        alone: whether a CPU is asked about each frame by itself, because what an image gives depends on those
            beside it otherwise.
        shared: whether several threads may ask at once; in eval mode, that is.
        settings: the keyword arguments it was built from; JSON-like.
    """

    family: ClassVar[str] = ""
    score_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    doubles: bool = True
    alone: bool = False
    shared: bool = True
    net: Any

    def __init__(self, net: nn.Module, class_names: Sequence[str], settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.net = net
        self.class_names = tuple(class_names)
        self.settings: dict[str, Any] = {name: as_plain(value) for name, value in settings.items()}

    def forward(self, images: Sequence[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        """Return the losses of one batch by name; their sum is what is minimised.

        Args:
            images: uint8 (3, H, W) each; sizes may differ. Never changed.
            targets: one for each image. Never changed.

        Raises:
            HemError: if a label is not one of ``class_names``, or counts differ.
        """
        if len(images) != len(targets):
            raise HemError(f"{len(images)} images came with {len(targets)} targets")
        if not self.training:
            raise RuntimeError("losses need train mode: call detector.train() first, or use detect()")
        for target in targets:
            self._check_labels(target)
        device = self.device
        return self.losses(
            [_as_float(image, device) for image in images],
            [to_labels(target, device) for target in targets],
        )

    def losses(self, images: list[Tensor], labels: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the losses of float images in [0, 1] and the dicts of contract.to_labels."""
        losses: dict[str, Tensor] = self.net(images, labels)
        return losses

    def detect(self, images: Sequence[Tensor] | Tensor, floor_score: float = 0.05) -> list[Detections]:
        """Return the detections of each image, on the CPU, highest score first.

        The network is put in eval mode for the call and left as it was. What an image gives does not
        depend on its companions beyond float rounding: torchvision pads a batch to its largest image,
        which would shift results, so only images of one size share a pass (all frames of a video do).
        What a frame gives (images in one tensor) did not depend, bit for bit, on the CPUs tried, on how
        many come together, nor on torch's number of threads as long as each has a part of the batch to
        itself: see parts.Parts. Where all share every layer, which they do for fewer images than
        threads, and in what is wrapped, scores may differ by 1e-6 and boxes by 4e-4 pixels.

        Args:
            images: uint8 (3, H, W) each, or uint8 (B, 3, H, W).
            floor_score: detections with score >= this are kept, in score_range. Lower keeps more
                evidence for mining and costs time in suppression and room on disk.
        """
        with self._asked(floor_score) as asking:
            return asking(images)

    @contextmanager
    def asking(self, floor_score: float = 0.05) -> Iterator[Callable[[Tensor], list[Detections]]]:
        """Give what answers as ``detect`` does, for many batches, of which the next may be begun early.

        Beside ``detect`` of one batch after the other no thread waits for those that are not through with
        theirs: see asking.Asking, and hem.ops.ahead.asked_ahead, which makes use of it. On a CPU, and where
        several threads may ask at once; elsewhere a batch is begun when its answer is wanted. Inside, torch
        has one thread, the network stays in eval mode and must not be asked otherwise.

        Args:
            floor_score: see ``detect``.
        """
        if getattr(self.detect, "__func__", None) is not Detector.detect:
            yield partial(self.detect, floor_score=floor_score)  # made otherwise by who knows better
            return
        with self._asked(floor_score) as asking:
            yield asking

    @contextmanager
    def _asked(self, floor_score: float) -> Iterator[Asking]:
        lowest, highest = self.score_range
        if not lowest <= floor_score <= highest:
            raise HemError(
                f"detector: floor_score must lie in score_range, {lowest:g}..{highest:g}, got {floor_score}"
            )
        # torchvision keeps scores > threshold in float32; the exact cut at >= is made in float64.
        self.set_floor(floor_score - 1e-6)
        here = self.device
        threads = torch.get_num_threads() if self.shared and here.type == "cpu" else 1

        @torch.no_grad()
        def ask(images: list[Tensor], frames: bool) -> list[Detections]:
            batch = [_as_float(image, here) for image in images]
            return [self._as_detections(one, floor_score) for one in self._predict_alike(batch, frames)]

        with self._eval_mode(), Parts(threads) as parts:
            yield Asking(ask, parts)

    def _predict_alike(self, images: list[Tensor], frames: bool) -> list[dict[str, Tensor]]:
        """Predict, a lone frame with a copy beside it.

        Convolutions of one image take another path than those of two or more, which all round alike:
        without the copy, the last frame of a video would depend on the size of the batches.
        """
        if frames and self.alone and self.device.type == "cpu":
            return [found for image in images for found in self.predict([image])]
        if len(images) == 1 and frames and self.doubles:
            return self.predict(images * 2)[:1]
        return self.predict(images)

    def predict(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        """Return ``boxes``, ``scores`` and ``labels`` of float images in [0, 1] of one size, in eval mode."""
        predictions: list[dict[str, Tensor]] = self.net(images)
        return predictions

    def set_floor(self, score_threshold: float) -> None:
        """Tell the network's postprocessing the score from which boxes are wanted."""
        self.net.score_thresh = score_threshold

    def set_limit(self, detections: int) -> None:
        """Tell the network's postprocessing how many boxes of an image may stay, instead of max_detections.

        Those that stay anyway are the same. What the network itself looks at (proposals, queries) is not
        changed by it: there are never more boxes than those.
        """
        self.net.detections_per_img = detections
        self.net.topk_candidates = max(getattr(self.net, "topk_candidates", 0), detections)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def digest(self) -> str:
        """Return sha256 (64 hex digits) over the weights and the settings that shape its answers."""
        settings = {name: value for name, value in self.settings.items() if name not in _NOT_IN_DIGEST}
        summary = hashlib.sha256(digest_of({"family": self.family, "settings": settings}).encode())
        for name, value in sorted(self.net.state_dict().items()):
            summary.update(f"{name}|{value.dtype}|{tuple(value.shape)}".encode())
            summary.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return summary.hexdigest()

    def load_weights(
        self, path: Path | str, *, prefix: str | None = None, replace_head: bool = False
    ) -> None:
        """Read weights trained here or elsewhere; see weights.load_into.

        Takes plain torchvision state_dicts, hem's and Lightning's checkpoints. After an error the
        weights are undefined and the detector should not be used.

        Args:
            path: a file that torch.load reads with weights_only=True.
            prefix: what comes before torchvision's names in the file's keys; None finds it.
            replace_head: keep the class layers as they are where the file has other classes.

        Raises:
            HemError: naming what differs and the way out.
        """
        found = read_weights(Path(path))
        load_into(
            self.net,
            found,
            source=str(path),
            class_names=self.class_names,
            prefix=prefix,
            replace_head=replace_head,
        )

    def describe(self) -> dict[str, Any]:
        """Return what rebuilds this detector without its weights: class path and settings.

        Put under ``hem_detector`` in any checkpoint, weights.load_detector rebuilds it from there.
        """
        kind = type(self)
        return {"target": f"{kind.__module__}.{kind.__qualname__}", "settings": dict(self.settings)}

    def decided(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``config`` with what the starting weights decided (frozen norms and layers) filled in.

        Built from it without those weights, as a checkpoint is, a detector goes on training as this
        one would; built from ``config`` alone, it would thaw.
        """
        found = {name: self.settings.get(name) for name in _DECIDED}
        return {**config, **{name: value for name, value in found.items() if value is not None}}

    def _check_labels(self, target: Target) -> None:
        highest = len(self.class_names)
        for labels in (target.labels, target.hard_negatives[1]):
            if len(labels) and int(labels.max()) > highest:
                raise HemError(
                    f"target of {target.name or 'an image'}: label {int(labels.max())}, but the detector "
                    f"knows {highest} classes ({', '.join(self.class_names)}); check data.class_names"
                )

    def _as_detections(self, found: Mapping[str, Tensor], floor_score: float) -> Detections:
        boxes, scores = found["boxes"].cpu().double(), found["scores"].cpu().double()
        labels = found["labels"].cpu()
        # Clipping to the image leaves boxes without extent; label 0 is torchvision's unused channel.
        keep = (boxes[:, 2:] > boxes[:, :2]).all(1) & (scores >= floor_score) & (labels > 0)
        order = torch.argsort(scores[keep], descending=True, stable=True)
        return Detections(boxes[keep][order], scores[keep][order], labels[keep][order])

    @contextmanager
    def _eval_mode(self) -> Iterator[None]:
        # Module by module: train() would also wake what a freeze schedule has put to sleep.
        awake = [module for module in self.modules() if module.training]
        for module in awake:
            module.training = False
        try:
            yield
        finally:
            for module in awake:
                module.training = True


def _as_float(image: Tensor, device: torch.device) -> Tensor:
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
        raise HemError(f"detector: images must be uint8 (3, H, W), got {image.dtype} {tuple(image.shape)}")
    return image.to(device, non_blocking=True).float().div_(255)


def settings_of(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return a constructor's ``locals()`` without the names that are no arguments."""
    return {name: value for name, value in arguments.items() if name not in ("self", "__class__")}


def as_plain(value: Any) -> Any:  # noqa: ANN401
    """Return a JSON-like copy of a setting (configs bring list and mapping types of their own)."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): as_plain(one) for key, one in value.items()}
    if isinstance(value, Sequence):
        return [as_plain(one) for one in value]
    if isinstance(value, Path):
        return value.as_posix()
    raise HemError(f"detector: setting {value!r} is of type {type(value).__name__}; plain values only")
