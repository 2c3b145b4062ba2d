"""Labelled images of any format behind one map-style class."""

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypedDict, Unpack

import numpy as np
import torch
from pydantic import Field

from hem.artifacts import digest_of, sha256_known
from hem.config import Strict, check
from hem.data.pictures import Orientation, load_rgb, size_of
from hem.data.reading import inside
from hem.data.records import BoxRules, ImageRecord, OnBadBox, OnBadImage, RawImage, Skips
from hem.errors import HemError
from hem.structures import LabelledImage, Target

MAX_IMAGES = 20_000_000
_READERS = 8  # files read at once for their digests; hashing and waiting leave the interpreter free


class ReadOptions(TypedDict, total=False):
    """Keyword arguments that every reader takes besides its own; see DetectionDataset."""

    on_bad_image: OnBadImage
    max_bad_images: int
    on_bad_box: OnBadBox
    max_bad_boxes: int
    min_box_side: float
    keep_empty: bool
    check_images: Literal["sizes", "pixels"]
    limit: int | None


class _Options(Strict):
    """ReadOptions with their defaults and ranges."""

    on_bad_image: OnBadImage = "error"
    max_bad_images: int = Field(100, ge=0)
    on_bad_box: OnBadBox = "error"
    max_bad_boxes: int = Field(1000, ge=0)
    min_box_side: float = Field(0.0, ge=0)
    keep_empty: bool = True
    check_images: Literal["sizes", "pixels"] = "sizes"
    limit: int | None = Field(None, ge=1)


class DetectionDataset:
    """Images with boxes, read when asked for: ``dataset[i]`` is a LabelledImage.

    Labels are judged when the dataset is built, so an impossible box stops a run before any
    training. Boxes are kept in a few flat arrays: memory is about 40 bytes a box, and workers share it.

    Args:
        root: the dataset's folder; no file outside it is ever read.
        images: what the reader found.
        class_names: names of labels 1, 2, ….
        on_bad_image: an image that is absent, damaged, or of another size than its labels say:
            ``error`` stops and names it; ``skip`` leaves it out, counted. Damage that shows only
            when pixels are decoded, after the dataset was built, makes ``dataset[i]`` give the next
            readable image with its own labels instead, counted once; ``check_images="pixels"`` finds
            it beforehand. What measures a detector takes ``readable()`` first, which has none.
        max_bad_images: above so many different skipped images (in one process) reading stops.
        on_bad_box, max_bad_boxes, min_box_side: see BoxRules.
        keep_empty: keep images that have neither a box nor an ignore region.
        check_images: ``sizes`` reads an image's header where the labels give no size; ``pixels``
            decodes every image once (slow: some 5 ms an image).
        limit: only the first so many images; None for all.

    Attributes:
        root, class_names: as given.
        image_ids: one stable name for each image.
        groups: the video or scene of each image, its own id where it stands alone.
        skips: what was left out or changed, counted by reason.
    """

    how_to: ClassVar[str] = ""
    orientation: ClassVar[Orientation] = "ignore"
    overhang_px: ClassVar[float] = 2.0
    outside: ClassVar[Literal["error", "skip"]] = "error"

    def __init__(
        self,
        root: Path | str,
        images: Iterable[RawImage],
        class_names: Sequence[str],
        **options: Unpack[ReadOptions],
    ) -> None:
        chosen = check(_Options, options)
        self.root = Path(root)
        self.class_names = tuple(class_names)
        self.skips = Skips()
        self._options = chosen
        self._digest: str | None = None
        self._bad: set[str] = set()
        self._rules = BoxRules(
            chosen.on_bad_box, self.overhang_px, self.outside, chosen.min_box_side, chosen.max_bad_boxes
        )
        self._collect(itertools.islice(images, chosen.limit))

    def _collect(self, images: Iterable[RawImage]) -> None:
        rows: list[tuple[Any, ...]] = []
        self._files: list[str] = []
        self._sizes: list[tuple[int, int]] = []
        self._declared: list[bool] = []
        self._groups: list[str] = []
        self._extras: list[Mapping[str, Any]] = []
        for image in images:
            if len(self._files) >= MAX_IMAGES:
                raise HemError(f"{image.where}: more than {MAX_IMAGES} images")
            try:
                size = self._size_of(image)
            except HemError as error:
                self._skip_image(error, image.file)
                continue
            judged = self._rules.judge(image, size, self.skips)
            if not self._options.keep_empty and not len(judged[0]):
                self.skips.add("image without boxes", image.file)
                continue
            rows.append(judged)
            self._files.append(image.file)
            self._sizes.append(size)
            self._declared.append(image.size is not None)
            self._groups.append(image.group)
            self._extras.append(image.extra)
        if len(set(self._files)) != len(self._files):
            twice = next(f for f, n in _counts(self._files).items() if n > 1)
            raise HemError(f"{self.root}: image {twice} is listed twice; every image may appear only once")
        self._starts = np.cumsum([0] + [len(row[0]) for row in rows])
        self._boxes = np.concatenate([row[0] for row in rows] or [np.zeros((0, 4), np.float32)])
        self._labels = np.concatenate([row[1] for row in rows] or [np.zeros(0, np.int64)])
        self._ignore = np.concatenate([row[2] for row in rows] or [np.zeros(0, np.bool_)])
        highest = int(self._labels.max(initial=0))
        if highest > len(self.class_names):
            raise HemError(f"{self.root}: label {highest}, but only {len(self.class_names)} class names")
        if not self._files:
            raise HemError(f"{self.root}: no image was found. {self.skips} {self.how_to}".rstrip())

    def _size_of(self, image: RawImage) -> tuple[int, int]:
        path = inside(self.root, image.file, image.where)
        if not path.is_file():
            how_to = f". {self.how_to}" if self.how_to else ""
            raise HemError(f"{path}: image is not there (named by {image.where}){how_to}")
        if self._options.check_images == "pixels":
            pixels = load_rgb(path, self.orientation, image.size)
            return int(pixels.shape[2]), int(pixels.shape[1])
        return image.size or size_of(path, self.orientation)

    def _skip_image(self, error: HemError, name: str) -> None:
        if self._options.on_bad_image == "error":
            raise HemError(f"{error}. Replace it, or set on_bad_image=skip") from None
        if name in self._bad:
            return
        self._bad.add(name)
        self.skips.add("bad image", name)
        if self.skips.counts["bad image"] > self._options.max_bad_images:
            raise HemError(
                f"{error}. More than max_bad_images={self._options.max_bad_images} images are bad"
            ) from None

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[LabelledImage]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> LabelledImage:
        """Return image ``index`` decoded, with its labels.

        Raises:
            HemError: if it is damaged (see ``on_bad_image``).
            IndexError: if ``index`` is out of range.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        for step in range(len(self)):
            found = self._loaded((index + step) % len(self))
            if found is not None:
                return found
        raise HemError(f"{self.root}: no image can be read")

    def _loaded(self, row: int) -> LabelledImage | None:
        """Return one image, or None if it is bad and passed over; each is tried and counted once."""
        if self._files[row] in self._bad:
            return None
        try:
            return self._load(row)
        except HemError as error:
            self._skip_image(error, self._files[row])
            return None

    def readable(self) -> Self:
        """Return the dataset without images that cannot be decoded, so that ``[i]`` is image i.

        With ``on_bad_image="skip"`` every image is decoded once (some 5 ms an image); with ``error`` none
        is, and a bad one raises when it is asked for.

        Raises:
            HemError: if more than ``max_bad_images`` are bad, or all of them.
        """
        if self._options.on_bad_image == "error":
            return self
        good = [row for row in range(len(self)) if self._loaded(row) is not None]
        if not good:
            raise HemError(f"{self.root}: no image can be read")
        return self if len(good) == len(self) else self.subset(good)

    def _load(self, row: int) -> LabelledImage:
        path = inside(self.root, self._files[row], str(self.root))
        declared = self._sizes[row] if self._declared[row] else None
        image = load_rgb(path, self.orientation, declared)
        return LabelledImage(image, self.target(row), self._files[row])

    def target(self, index: int) -> Target:
        """Return the labels of one image without decoding it."""
        rows = slice(int(self._starts[index]), int(self._starts[index + 1]))
        kept, ignored = ~self._ignore[rows], self._ignore[rows]
        return Target(
            boxes_xyxy=torch.from_numpy(self._boxes[rows][kept]),
            labels=torch.from_numpy(self._labels[rows][kept]),
            ignore_xyxy=torch.from_numpy(self._boxes[rows][ignored]),
            name=self._files[index],
        )

    def record(self, index: int) -> ImageRecord:
        """Return all that is known of one image without decoding it."""
        rows = slice(int(self._starts[index]), int(self._starts[index + 1]))
        return ImageRecord(
            file=self._files[index],
            image_id=self._files[index],
            size=self._sizes[index],
            target=self.target(index),
            group=self.groups[index],
            ignore_labels=self._labels[rows][self._ignore[rows]],
            extra=self._extras[index],
        )

    @property
    def image_ids(self) -> tuple[str, ...]:
        """Stable names of the images: POSIX paths relative to the root."""
        return tuple(self._files)

    @property
    def groups(self) -> tuple[str, ...]:
        """Video or scene of each image; an image that stands alone is its own group."""
        return tuple(group or file for group, file in zip(self._groups, self._files, strict=True))

    @property
    def box_counts(self) -> dict[str, int]:
        """Number of positive boxes of each class, by name."""
        counts = np.bincount(self._labels[~self._ignore], minlength=len(self.class_names) + 1)
        return {name: int(counts[label]) for label, name in enumerate(self.class_names, 1)}

    def subset(self, indices: Sequence[int]) -> Self:
        """Return a dataset of these images, in this order, sharing nothing that changes."""
        part = copy.copy(self)
        part._digest = None
        part.skips, part._bad = copy.deepcopy(self.skips), set(self._bad)
        for name in ("_files", "_sizes", "_declared", "_groups", "_extras"):
            setattr(part, name, [getattr(self, name)[index] for index in indices])
        spans = [np.arange(self._starts[index], self._starts[index + 1]) for index in indices]
        rows = np.concatenate(spans) if spans else np.zeros(0, np.int64)
        part._starts = np.cumsum([0] + [len(span) for span in spans])
        part._boxes, part._labels, part._ignore = self._boxes[rows], self._labels[rows], self._ignore[rows]
        return part

    def digest(self, report: Callable[[int, int], object] | None = None) -> str:
        """Return the sha256 of names, sizes, labels, boxes and what the image files hold, 64 hex digits.

        Every file is read once in full in a process, as one epoch of training does, and none is decoded.

        Args:
            report: told as reading goes on of the images dealt with, and of how many there are.

        Raises:
            HemError: if a file cannot be read and ``on_bad_image`` is ``error``.
        """
        if self._digest is None:
            with ThreadPoolExecutor(_READERS) as pool:
                contents = []
                for content in pool.map(self._content_of, self._files):
                    contents.append(content)
                    if report is not None:
                        report(len(contents), len(self._files))
            self._digest = digest_of([self.labels_digest(), contents])
        return self._digest

    def _content_of(self, file: str) -> str:
        try:
            return sha256_known(inside(self.root, file, str(self.root)))
        except OSError as error:
            if self._options.on_bad_image == "skip":
                return "cannot be read"
            raise HemError(
                f"{self.root / file}: cannot be read ({error.strerror or error}). Replace it, or set "
                "on_bad_image=skip"
            ) from None

    def labels_digest(self) -> str:
        """Return the sha256 of names, sizes, labels and boxes alone, 64 hex digits; no file is read."""
        columns = (self._starts, self._boxes, self._labels, self._ignore)
        return digest_of([self.class_names, self._files, self._sizes, [c.tolist() for c in columns]])

    def report(self) -> str:
        """Return one line for people: images, boxes by class, ignore regions, what was skipped."""
        boxes = ", ".join(f"{count} {name}" for name, count in self.box_counts.items())
        skipped = f"; {self.skips}" if self.skips.counts else ""
        return f"{self.root.name}: {len(self)} images, {boxes}, {int(self._ignore.sum())} ignored{skipped}"


def _counts(names: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in names:
        found[name] = found.get(name, 0) + 1
    return found
