from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from hem.detectors.protocol import Detector
from hem.structures import LabelledImage, Target


class TinyDetector(Detector):
    """One convolution whose loss depends on pixels, labels and the random draws of its step."""

    family = "tiny"

    def __init__(self, class_names: Sequence[str] = ("thing",), width: int = 2) -> None:
        super().__init__(nn.Conv2d(3, width, 3), class_names, {"width": width})
        self.calls = 0

    def losses(self, images: list[Tensor], labels: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        drawn = torch.rand(())
        answers = torch.stack([self.net(image[None]).mean() for image in images])
        wanted = torch.tensor([float(len(one["boxes"])) for one in labels])
        return {"square": ((answers - wanted) ** 2).mean(), "drawn": drawn * answers.abs().mean()}

    def predict(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        self.calls += 1
        empty = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0).long()}
        return [dict(empty) for _ in images]


class Images:
    """Ten labelled images of one colour each; some hold a box."""

    class_names = ("thing",)

    def __init__(self, count: int = 10, prefix: str = "image") -> None:
        self.count = count
        self.prefix = prefix

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> LabelledImage:
        image = torch.full((3, 8, 8), 20 * index % 255, dtype=torch.uint8)
        boxes = torch.tensor([[1.0, 1, 5, 5]])[: index % 2]
        target = Target(boxes_xyxy=boxes, labels=torch.ones(len(boxes)))
        return LabelledImage(image, target, f"{self.prefix}-{index}")

    def digest(self) -> str:
        return f"{self.prefix}-{self.count}"


@pytest.fixture
def tiny() -> TinyDetector:
    torch.manual_seed(0)
    return TinyDetector()


@pytest.fixture
def images() -> Images:
    return Images()


@pytest.fixture
def make_images() -> type[Images]:
    return Images


@pytest.fixture
def make_tiny() -> type[TinyDetector]:
    return TinyDetector
