"""Any detector behind hem's protocol, for mining: a torchvision network, another library, a function."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hem.detectors.protocol import Detector
from hem.errors import HemError
from hem.structures import Target

Answer = Mapping[str, Any]
_FIELDS = ("boxes", "scores", "labels")


class WrappedDetector(Detector):
    """A detector that hem asks but cannot train: it mines, and its replay set is trained on elsewhere.

    Args:
        detect: called with a list of images, float32 (3, H, W) in [0, 1], RGB, on the device of its
            weights; returns a mapping for each with ``boxes`` (N, 4) (left, top, right, bottom) in
            pixels of that image, ``scores`` (N,) and ``labels`` (N,), 1-based (absent: all 1), as
            tensors, arrays or lists. torchvision's detection networks fit as they are. A module is
            put in eval mode for each call.
        class_names: of labels 1, 2, ….
        name: what it is, with its version; evidence collected under one name is used again, so a
            function that changed needs another name. A module's weights count as well.
        score_range: lowest and highest score it can give; with the wrong one mining would take it for what
            it is not, so that a score outside ends it.

    Raises:
        HemError: if ``name`` or ``class_names`` is empty, or ``class_names`` one text.
    """

    family = "wrapped"
    shared = False  # nobody knows what is in it

    def __init__(
        self,
        detect: Callable[[list[Tensor]], Sequence[Answer]],
        *,
        class_names: Sequence[str],
        name: str,
        score_range: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        if not name or not class_names or isinstance(class_names, str):
            raise HemError("a wrapped detector needs a name and class_names, a list of texts")
        net = detect if isinstance(detect, nn.Module) else nn.Module()
        super().__init__(net, class_names, {"name": name, "class_names": list(class_names)})
        self._call = detect
        self.doubles = isinstance(detect, nn.Module)  # a function is called as often as it is needed
        self.score_range = score_range  # type: ignore[misc] # of this one, not of the class

    @property
    def device(self) -> torch.device:
        """Where the weights are; the CPU for a function without any."""
        return next((one.device for one in self.parameters()), torch.device("cpu"))

    def losses(self, images: list[Tensor], labels: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Raise HemError: what is wrapped is asked, not trained."""
        raise HemError(
            "a wrapped detector cannot be trained here; export its replay set (python -m hem.export) or "
            "use a detector of hem.detectors"
        )

    def forward(self, images: Sequence[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        """Raise HemError, as ``losses``."""
        return self.losses([], [])

    def set_floor(self, score_threshold: float) -> None:
        """Lower torchvision's own threshold; others keep theirs, and what they leave out is not seen."""
        for part in self._parts():
            if hasattr(part, "score_thresh"):
                part.score_thresh = score_threshold

    def set_limit(self, detections: int) -> None:
        """Raise torchvision's own limit; others keep theirs."""
        for part in self._parts():
            for name in ("detections_per_img", "topk_candidates"):
                if hasattr(part, name):
                    setattr(part, name, max(getattr(part, name), detections))

    def _parts(self) -> list[Any]:
        return [self.net, getattr(self.net, "roi_heads", None)]

    def predict(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        """Return the answers as tensors, checked."""
        answers = self._call(images)
        if not isinstance(answers, Sequence) or len(answers) != len(images):
            raise HemError(
                f"detector {self.settings['name']}: {len(images)} images must give as many answers, got "
                f"{len(answers) if isinstance(answers, Sequence) else type(answers).__name__}"
            )
        return [self._checked(answer) for answer in answers]

    def _checked(self, answer: Answer) -> dict[str, Tensor]:
        name = self.settings["name"]
        if not isinstance(answer, Mapping) or not {"boxes", "scores"} <= set(answer):
            raise HemError(f"detector {name}: an answer must be a mapping with boxes and scores")
        # as they are given: a score of 0.7 in float32 would be below a threshold of 0.7
        try:
            boxes = _tensor(answer["boxes"], torch.float64)
            scores = _tensor(answer["scores"], torch.float64).reshape(-1)
            given = answer.get("labels")
            labels = _tensor(np.ones(len(scores)) if given is None else given, torch.float64).reshape(-1)
        except (TypeError, ValueError, RuntimeError) as error:
            raise HemError(f"detector {name}: boxes, scores and labels must be numbers: {error}") from None
        if boxes.numel() and (boxes.ndim != 2 or boxes.shape[1] != 4):
            raise HemError(f"detector {name}: boxes of one image must be (N, 4), got {tuple(boxes.shape)}")
        boxes = boxes.reshape(-1, 4)
        if bool((labels != labels.round()).any()):  # also of what is not a number
            raise HemError(f"detector {name}: a label of one image is no whole number")
        labels = labels.to(torch.int64)
        if not len(boxes) == len(scores) == len(labels):
            raise HemError(
                f"detector {name}: {len(boxes)} boxes, {len(scores)} scores and {len(labels)} labels "
                "of one image"
            )
        if not bool(torch.isfinite(boxes).all() and torch.isfinite(scores).all()):
            raise HemError(f"detector {name}: a box or score of one image is not finite")
        if bool((boxes[:, 2:] < boxes[:, :2]).any()):
            raise HemError(
                f"detector {name}: a box ends before it begins; boxes are left, top, right, bottom, "
                "not left, top, width, height"
            )
        lowest_score, highest_score = self.score_range
        slack = 1e-5 * max(abs(lowest_score), abs(highest_score))  # rounding in float32
        outside = scores[(scores < lowest_score - slack) | (scores > highest_score + slack)]
        if len(outside):
            raise HemError(
                f"detector {name}: a score of {float(outside[0]):g}, but score_range is "
                f"{lowest_score:g}..{highest_score:g}: give WrappedDetector the range of its scores"
            )
        lowest, highest = (int(labels.min()), int(labels.max())) if len(labels) else (1, 0)
        if lowest < 1:
            raise HemError(f"detector {name}: label {lowest}; labels begin at 1, the first of class_names")
        if highest > len(self.class_names):
            raise HemError(f"detector {name}: label {highest}, but class_names has {len(self.class_names)}")
        return dict(zip(_FIELDS, (boxes, scores, labels), strict=True))


def _tensor(values: Any, dtype: torch.dtype) -> Tensor:  # noqa: ANN401
    if isinstance(values, Tensor):
        return values.detach().to("cpu", dtype)
    return torch.as_tensor(values, dtype=dtype)  # Python's numbers would be rounded on the way
