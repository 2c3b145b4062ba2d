"""What one training image teaches: trusted boxes, trusted errors, and where nothing is known."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import torch
from torch import Tensor

from hem.errors import HemError
from hem.structures._check import as_tensor, same_length, valid_boxes, valid_labels

_EMPTY = torch.zeros(0)


def _none() -> Tensor:
    return _EMPTY


@dataclass(frozen=True, eq=False)
class Target:
    """Labels of one training image, all in pixels of that image as (left, top, right, bottom).

    Attributes:
        boxes_xyxy: float32 (N, 4) positives; labels: int64 (N,) from 1; weights: float32 (N,) >= 0.
        negatives_xyxy: float32 (M, 4) regions known to hold no object of ``negative_labels``
            (int64 (M,), 0 = of no class at all) with ``negative_weights`` float32 (M,) >= 0.
        ignore_xyxy: float32 (K, 4) regions about which nothing is known.
        soft_scores: float32 (N,) in [0, 1], the teacher's belief in each positive, or None.
        name: the image's file or video frame, for messages.

    A box of weight 0 is moved to ``ignore_xyxy`` when the Target is built, before any matching;
    so is a negative of weight 0 dropped (it teaches nothing and hides nothing).

    Raises:
        HemError: on a wrong shape or range, an empty box (no width or height), or a hard negative
            that overlaps a positive of its class with IoU >= ``conflict_iou`` (0.5, the positive
            threshold of the detectors: one region cannot be both).
    """

    boxes_xyxy: Tensor = field(default_factory=_none)
    labels: Tensor = field(default_factory=_none)
    weights: Tensor | None = None
    negatives_xyxy: Tensor = field(default_factory=_none)
    negative_labels: Tensor | None = None
    negative_weights: Tensor | None = None
    ignore_xyxy: Tensor = field(default_factory=_none)
    soft_scores: Tensor | None = None
    name: str = ""
    conflict_iou: float = 0.5

    def __post_init__(self) -> None:
        where = f"target of {self.name or 'an image'}"
        put = object.__setattr__
        for name in ("boxes_xyxy", "negatives_xyxy", "ignore_xyxy"):
            boxes = as_tensor(name, getattr(self, name), torch.float32, (4,), where)
            valid_boxes(name, boxes, where)
            if bool(((boxes[:, 2:] - boxes[:, :2]) <= 0).any()):
                raise HemError(f"{where}: {name} holds a box without width or height")
            put(self, name, boxes)
        count, negatives = len(self.boxes_xyxy), len(self.negatives_xyxy)
        device = self.boxes_xyxy.device
        if self.weights is None:
            put(self, "weights", torch.ones(count, device=device))
        if self.negative_labels is None:
            put(self, "negative_labels", torch.zeros(negatives, dtype=torch.int64, device=device))
        if self.negative_weights is None:
            put(self, "negative_weights", torch.ones(negatives, device=device))
        for name, dtype in (("labels", torch.int64), ("weights", torch.float32)):
            put(self, name, as_tensor(name, getattr(self, name), dtype, (), where))
        for name, dtype in (("negative_labels", torch.int64), ("negative_weights", torch.float32)):
            put(self, name, as_tensor(name, getattr(self, name), dtype, (), where))
        if self.soft_scores is not None:
            put(
                self,
                "soft_scores",
                as_tensor("soft_scores", self.soft_scores, torch.float32, (), where),
            )
        self._check(where)
        self._move_weightless()

    def _check(self, where: str) -> None:
        assert (
            self.weights is not None
            and self.negative_labels is not None
            and self.negative_weights is not None
        )
        same_length(
            where,
            boxes_xyxy=len(self.boxes_xyxy),
            labels=len(self.labels),
            weights=len(self.weights),
        )
        same_length(
            where,
            negatives_xyxy=len(self.negatives_xyxy),
            negative_labels=len(self.negative_labels),
            negative_weights=len(self.negative_weights),
        )
        valid_labels(self.labels, where)
        valid_labels(self.negative_labels, where + " (negatives)", lowest=0)
        for name in ("weights", "negative_weights"):
            if bool((getattr(self, name) < 0).any()):
                raise HemError(f"{where}: {name} must be >= 0")
        if self.soft_scores is not None:
            same_length(where, boxes_xyxy=len(self.boxes_xyxy), soft_scores=len(self.soft_scores))
            if bool(((self.soft_scores < 0) | (self.soft_scores > 1)).any()):
                raise HemError(f"{where}: soft_scores must lie in [0, 1]")
        self._refuse_conflicts(where)

    def _refuse_conflicts(self, where: str) -> None:
        assert (
            self.weights is not None
            and self.negative_labels is not None
            and self.negative_weights is not None
        )
        if not len(self.boxes_xyxy) or not len(self.negatives_xyxy):
            return
        same_class = (self.negative_labels[:, None] == 0) | (
            self.negative_labels[:, None] == self.labels[None]
        )
        live = (self.negative_weights[:, None] > 0) & (self.weights[None] > 0)
        from torchvision.ops import box_iou  # takes seconds to import, and most commands never come here

        overlap = box_iou(self.negatives_xyxy, self.boxes_xyxy)
        clash = same_class & live & (overlap >= self.conflict_iou)
        if bool(clash.any()):
            negative, positive = clash.nonzero()[0].tolist()
            raise HemError(
                f"{where}: hard negative {self.negatives_xyxy[negative].tolist()} overlaps positive "
                f"{self.boxes_xyxy[positive].tolist()} of its class with IoU "
                f"{float(overlap[negative, positive]):.3f} >= {self.conflict_iou}"
            )

    def _move_weightless(self) -> None:
        assert (
            self.weights is not None
            and self.negative_labels is not None
            and self.negative_weights is not None
        )
        put = object.__setattr__
        weightless = self.weights == 0
        if bool(weightless.any()):
            put(self, "ignore_xyxy", torch.cat([self.ignore_xyxy, self.boxes_xyxy[weightless]]))
            for name in ("boxes_xyxy", "labels", "soft_scores", "weights"):
                value = getattr(self, name)
                put(self, name, None if value is None else value[~weightless])
        silent = self.negative_weights == 0
        if bool(silent.any()):
            for name in ("negatives_xyxy", "negative_labels", "negative_weights"):
                put(self, name, getattr(self, name)[~silent])

    @property
    def box_weights(self) -> Tensor:
        """Weights of the positives, float32 (N,); never None, unlike the field as passed in."""
        assert self.weights is not None
        return self.weights

    @property
    def hard_negatives(self) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (M, 4), labels (M,) and weights (M,) of the hard negatives; never None."""
        assert self.negative_labels is not None and self.negative_weights is not None
        return self.negatives_xyxy, self.negative_labels, self.negative_weights

    @property
    def fully_labelled(self) -> bool:
        """True if this is an ordinary image: weights 1, no negatives, no ignore, no soft scores."""
        return (
            len(self.negatives_xyxy) == 0
            and len(self.ignore_xyxy) == 0
            and self.soft_scores is None
            and bool((self.box_weights == 1).all())
        )

    def to(self, device: torch.device | str) -> "Target":
        """Return the same target on another device."""
        moved: dict[str, Any] = {}
        for one in fields(self):
            value = getattr(self, one.name)
            moved[one.name] = value.to(device) if isinstance(value, Tensor) else value
        return Target(**moved)


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """One image with its target.

    Attributes:
        image: uint8 (3, H, W), RGB.
        target: its labels.
        image_id: stable name within its dataset (POSIX path relative to the dataset's root).
    """

    image: Tensor
    target: Target
    image_id: str

    def __post_init__(self) -> None:
        if self.image.dtype != torch.uint8 or self.image.ndim != 3 or self.image.shape[0] != 3:
            raise HemError(
                f"{self.image_id}: image must be uint8 (3, H, W), "
                f"got {self.image.dtype} {tuple(self.image.shape)}"
            )


Batch = Sequence[LabelledImage]


class ImageSource(Protocol):
    """Anything that gives labelled images by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> LabelledImage: ...
