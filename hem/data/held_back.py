"""Holding back a share of labelled images, the same one every time."""

import hashlib
from collections.abc import Sequence

from hem.artifacts import digest_of
from hem.data.base import DetectionDataset
from hem.data.bundle import LabelledImages
from hem.errors import HemError
from hem.structures import LabelledImage, Target


class Chosen:
    """Some images of a data set, in its order.

    Args:
        images: the whole data set.
        indices: which of its images, rising.
    """

    def __init__(self, images: LabelledImages, indices: Sequence[int]) -> None:
        self.images = images
        self.indices = tuple(indices)
        self.class_names = images.class_names

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int, /) -> LabelledImage:
        return self.images[self.indices[index]]

    def target(self, index: int) -> Target:
        """Return the target of one image, without its pixels where the data set allows that."""
        alone = getattr(self.images, "target", None)
        where = self.indices[index]
        found: Target = alone(where) if alone is not None else self.images[where].target
        return found

    def readable(self) -> "Chosen":
        """Return those that can be decoded; see DetectionDataset.readable."""
        if not isinstance(self.images, DetectionDataset):
            return self
        chosen = self.images.subset(self.indices)
        kept = set(chosen.readable().image_ids)
        names = zip(self.indices, chosen.image_ids, strict=True)
        return Chosen(self.images, [index for index, name in names if name in kept])

    def digest(self) -> str:
        """Return a digest of the data set and the choice."""
        return digest_of({"images": self.images.digest(), "indices": list(self.indices)})


def hold_back(images: LabelledImages, share: float) -> tuple[Chosen, Chosen]:
    """Return (kept, held back): ``share`` of the images, at least one, drawn by the data's own digest.

    Neither the run's seed nor the machine changes the draw, so runs with other seeds hold back the
    same images.

    Raises:
        HemError: if there are fewer than two images, or the share is not in (0, 1).
    """
    count = len(images)
    if count < 2 or not 0 < share < 1:
        raise HemError(f"calibration.share={share} of {count} labelled images leaves nothing on one side")
    digest = getattr(images, "labels_digest", images.digest)()  # an edited picture draws no other images
    drawn = sorted(range(count), key=lambda k: hashlib.sha256(f"{digest}|{k}".encode()).digest())
    held = set(drawn[: min(max(round(share * count), 1), count - 1)])
    kept = [index for index in range(count) if index not in held]
    return Chosen(images, kept), Chosen(images, sorted(held))
