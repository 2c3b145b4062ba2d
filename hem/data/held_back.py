"""Holding back a share of labelled images, the same one every time."""

import hashlib
from collections.abc import Hashable, Sequence

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
    """Return (kept, held back): about ``share`` of the images, drawn by the data's own digest.

    Images of one video or scene (``groups``, where the data set has them) are on one side: scores at
    frames next to those that were trained on say nothing of unseen ones. Neither the run's seed nor
    the machine changes the draw, so runs with other seeds hold back the same images.

    Args:
        images: the labelled training images.
        share: in (0, 1), of the images. Met exactly with images that stand alone; else the drawn
            groups are taken that bring the number nearer to it, at least the smallest of all.

    Raises:
        HemError: if there are fewer than two images, or two groups, or the share is not in (0, 1).
    """
    count = len(images)
    if count < 2 or not 0 < share < 1:
        raise HemError(f"calibration.share={share} of {count} labelled images leaves nothing on one side")
    groups = _groups(images)
    if len(groups) < 2:
        raise HemError(
            f"calibration.share={share}: all {count} labelled images are of one video or scene, which is not "
            "divided; add labelled images of another one, or take mining.score_scale=quantile or raw"
        )
    digest = getattr(images, "labels_digest", images.digest)()  # an edited picture draws no other images
    drawn = sorted(groups, key=lambda group: hashlib.sha256(f"{digest}|{group[0]}".encode()).digest())
    wanted = min(max(round(share * count), 1), count - 1)
    held: set[int] = set()
    for group in drawn:
        taken = len(held) + len(group)
        if abs(taken - wanted) < abs(len(held) - wanted) and taken < count:
            held.update(group)
    held = held or set(sorted(drawn, key=len)[0])
    kept = [index for index in range(count) if index not in held]
    return Chosen(images, kept), Chosen(images, sorted(held))


def _groups(images: LabelledImages) -> list[list[int]]:
    """Return the indices of each video or scene, rising, in the order of their first."""
    names: Sequence[Hashable] = getattr(images, "groups", range(len(images)))
    members: dict[Hashable, list[int]] = {}
    for index, name in enumerate(names):
        members.setdefault(name, []).append(index)
    return list(members.values())
