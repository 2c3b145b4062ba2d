"""Everything an experiment needs of its data: labelled splits, and where video and truth may lie."""

from dataclasses import dataclass
from typing import Protocol

from hem.artifacts import digest_of
from hem.errors import HemError
from hem.structures import LabelledImage


class LabelledImages(Protocol):
    """A map-style dataset of labelled images."""

    class_names: tuple[str, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> LabelledImage: ...

    def digest(self) -> str:
        """Return what the images and labels are, as a digest."""
        ...


def readable(images: LabelledImages) -> LabelledImages:
    """Return images to measure a detector on: without those that cannot be decoded and are passed over.

    Otherwise what is found in the next image would count for the labels of the bad one.
    """
    own = getattr(images, "readable", None)
    found: LabelledImages = images if own is None else own()
    return found


@dataclass(frozen=True)
class DataBundle:
    """Labelled data of one experiment.

    Attributes:
        train: images to learn from; test: held-out stills, for figures and the operating point.
        videos, heldout_videos: folders of video that come with the data, or None (then the
            configuration's ``videos=`` and ``heldout_videos=`` name them).
        videos_truth, heldout_truth: folders of exact truth. Neither training nor mining reads them.
        calibration: labelled images that nothing trains on, for score_scale=calibrated, or None.
        note: what a table must say of the split, for example ``same scene``.
    """

    train: LabelledImages
    test: LabelledImages
    videos: str | None = None
    heldout_videos: str | None = None
    videos_truth: str | None = None
    heldout_truth: str | None = None
    note: str = ""
    calibration: LabelledImages | None = None

    def __post_init__(self) -> None:
        if self.train.class_names != self.test.class_names:
            raise HemError(
                f"train has the classes {list(self.train.class_names)}, "
                f"test has {list(self.test.class_names)}; they must be the same, in the same order"
            )
        for name, part in (("train", self.train), ("test", self.test)):
            if len(part) == 0:
                raise HemError(f"data.{name} holds no image")

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of labels 1, 2, …."""
        return self.train.class_names

    @property
    def digest(self) -> str:
        """Digest of the training images."""
        return digest_of({"train": self.train.digest(), "classes": list(self.class_names)})

    @property
    def heldout_digest(self) -> str:
        """Digest of the held-out images."""
        return digest_of({"test": self.test.digest(), "classes": list(self.class_names)})
