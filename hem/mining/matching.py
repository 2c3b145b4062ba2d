"""The two ways a candidate is looked for in another frame: the paper's, and hem's own."""

from array import array
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from hem.ops.area import shrunk
from hem.ops.template_match import Grey, best_match_opencv, ncc_of
from hem.structures import GreyPicture
from hem.structures.evidence import NeighbourTable

NeighbourRow = tuple[int, int, int, float, NDArray[np.float64]]
"""Of a neighbour table: candidate, offset, region, NCC, tracked box float64 (4,)."""
_LEAST_SIDE = 6  # pixels
_LEAST_CONTRAST = 2.0  # grey levels of standard deviation; less is noise, which looks alike everywhere
MOST_PLACES = 0.6
"""Of all places; to look at more of them one by one costs as much as to look at all."""
Place = tuple[int, int]
Places = tuple[int, int, int, int]
"""Left and top corners of a template: (x0, y0, x1, y1), ends inclusive."""
NEAR = 0.25
"""Of the search margin: how far round a likely place a candidate is looked for before it is everywhere."""
SURE_NCC = 0.01
"""Twenty times OpenCV's error at a peak; an NCC this far above a threshold passes it whoever computes it."""


class PixelTemplate:
    """A candidate's picture at full resolution, to be looked for as the published program does.

    Args:
        grey: uint8 (H, W), the candidate's frame.
        box_xyxy: float64 (4,), inside the frame; its template is rows int(top):int(bottom), columns
            int(left):int(right) and must hold a pixel.
        margin: pixels searched on every side.
        size: (W, H) of the video's first frame.
    """

    def __init__(
        self, grey: GreyPicture, box_xyxy: NDArray[np.float64], margin: float, size: tuple[int, int]
    ) -> None:
        left, top, right, bottom = (int(value) for value in box_xyxy)
        self._template = grey[top:bottom, left:right]
        self._region = pixel_region(box_xyxy, margin, size)
        self._near = int(min(margin * NEAR, max(size)))

    def match(self, other: GreyPicture) -> tuple[float, NDArray[np.float64]]:
        """Return the best NCC in another frame, uint8 (H, W), and the box of the template there (4,)."""
        x0, y0, x1, y1 = self._region
        best, x, y = best_match_opencv(self._template, other[y0:y1, x0:x1])
        return best, self._box(x0 + x, y0 + y)

    def shows(
        self, other: GreyPicture, tried_xy: Sequence[Place], elsewhere: NDArray[np.int64], least: float
    ) -> NDArray[np.float64] | None:
        """Return a box where the NCC is so high that ``match`` surely passes, and at none of some places.

        It does if somewhere the NCC is ``least`` or more and higher than at each of those places. Surely: by
        SURE_NCC, which OpenCV's error does not reach. None says nothing.

        Args:
            other: uint8 (H, W).
            tried_xy: left and top of the template, moved into the search region; looked at in this order,
                and then round the first.
            elsewhere: int64 (M, 4), places where the best one must not be, (x0, y0, x1, y1), ends inclusive.
            least: the NCC to pass.
        """
        height, width = self._template.shape
        x0, y0, x1, y1 = self._region
        whole = (x0, y0, x1 - width, y1 - height)
        parts = [part for part in (_common(place, whole) for place in elsewhere.tolist()) if _count(part)]
        if sum(map(_count, parts)) > MOST_PLACES * _count(whole):
            return None  # the whole search costs no more
        rival: float | None = None
        for best, x, y in self._looks(other, tried_xy, whole):
            if best < least + SURE_NCC:
                continue
            if rival is None:
                rival = max((self._search(other, part)[0] for part in parts), default=-1.0)
            if rival < best - SURE_NCC:
                return self._box(x, y)
        return None

    def _looks(
        self, other: GreyPicture, tried_xy: Sequence[Place], whole: Places
    ) -> Iterator[tuple[float, int, int]]:
        """Yield (NCC, x, y) of the places tried and of the best one round the first."""
        height, width = self._template.shape
        tried = [(min(max(x, whole[0]), whole[2]), min(max(y, whole[1]), whole[3])) for x, y in tried_xy]
        (x, y), near = tried[0], self._near
        places = _common((x - near, y - near, x + near, y + near), whole)
        # one look at the picture for all of them: each has a price of its own
        part = other[places[1] : places[3] + height, places[0] : places[2] + width]

        def ncc_at(x: int, y: int) -> float:
            if _count(_common(places, (x, y, x, y))):
                u, v = x - places[0], y - places[1]
                return ncc_of(self._template, part[v : v + height, u : u + width])
            return ncc_of(self._template, other[y : y + height, x : x + width])

        for x, y in tried:
            yield ncc_at(x, y), x, y
        _, u, v = best_match_opencv(self._template, part)
        x, y = places[0] + u, places[1] + v
        yield ncc_at(x, y), x, y

    def _search(self, other: GreyPicture, places: Places) -> tuple[float, int, int]:
        """Return (best NCC, x, y) among some places."""
        x0, y0, x1, y1 = places
        height, width = self._template.shape
        best, x, y = best_match_opencv(self._template, other[y0 : y1 + height, x0 : x1 + width])
        return best, x0 + x, y0 + y

    def _box(self, x: int, y: int) -> NDArray[np.float64]:
        height, width = self._template.shape
        return np.array([x, y, x + width, y + height], dtype=np.float64)


def _common(one: Sequence[int], other: Sequence[int]) -> Places:
    return max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3])


def _count(places: Places) -> int:
    return max(places[2] - places[0] + 1, 0) * max(places[3] - places[1] + 1, 0)


def pixel_region(
    box_xyxy: NDArray[np.float64], margin: float, size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return (x0, y0, x1, y1), ends exclusive: all that PixelTemplate looks at, in either frame.

    The template lies inside, for a box inside the frame, since the search reaches round it.
    """
    left, top, right, bottom = (float(value) for value in box_xyxy)
    x0, x1 = _span(left, right, margin, size[0])
    y0, y1 = _span(top, bottom, margin, size[1])
    return x0, y0, x1 + 1, y1 + 1


def _span(low: float, high: float, margin: float, size: int) -> tuple[int, int]:
    half = (high - low + 1) / 2 + margin
    centre = (low + high) / 2
    return int(max(centre - half, 0.0)), int(min(centre + half, size - 1.0))


class BoxTemplate:
    """A candidate's picture, shrunk once, to be looked for in several frames.

    Box-relative throughout: the longer side is at most ``side`` pixels and the search reaches
    ``margin`` times the longer side on every side, so twice the resolution gives the same answer.
    The shorter side keeps _LEAST_SIDE pixels: of a long thin box too little would be left to be recognised.
    The part of the box outside the frame is not matched.
    """

    def __init__(self, grey: GreyPicture, box_xyxy: NDArray[np.float64], margin: float, side: int) -> None:
        height, width = grey.shape
        left, top = np.floor(np.clip(box_xyxy[:2], 0, (width, height))).astype(int)
        right, bottom = np.ceil(np.clip(box_xyxy[2:], 0, (width, height))).astype(int)
        self._box = np.asarray(box_xyxy, dtype=np.float64)
        self._origin = (int(left), int(top))
        self._size = (int(right - left), int(bottom - top))
        longer = max(self._size)
        self.usable = min(self._size) >= 4
        """False for boxes with too little in the frame to be recognised: too few pixels, or no contrast."""
        self._factors = tuple(
            min(1.0, max(side / longer, _LEAST_SIDE / own)) if own else 1.0 for own in self._size
        )
        self._reach = margin * longer
        if self.usable:
            self._template = shrink(grey[top:bottom, left:right], *self._factors)
            self.usable = bool(self._template.std() >= _LEAST_CONTRAST)

    def find(self, other: GreyPicture) -> tuple[float, NDArray[np.float64]]:
        """Return (best NCC, the candidate's whole box, float64 (4,), moved as its picture has moved).

        Parts of the box outside the frame move with the rest, so a place may reach over the frame's border.
        """
        height, width = other.shape
        x, y = self._origin
        x0, x1 = max(0, int(x - self._reach)), min(width, int(np.ceil(x + self._size[0] + self._reach)))
        y0, y1 = max(0, int(y - self._reach)), min(height, int(np.ceil(y + self._size[1] + self._reach)))
        region = shrink(other[y0:y1, x0:x1], *self._factors)  # the template fits: it lies inside
        best, u, v = best_match_opencv(self._template, region)
        rows, columns = self._template.shape
        moved_x = _centre_in(x0, x1, region.shape[1], u, columns) - (x + self._size[0] / 2)
        moved_y = _centre_in(y0, y1, region.shape[0], v, rows) - (y + self._size[1] / 2)
        return best, self._box + np.array([moved_x, moved_y, moved_x, moved_y])


def _centre_in(start: int, end: int, shrunk: int, place: int, length: int) -> float:
    """Return where, in pixels of the frame, the middle of a match lies in a region that was shrunk.

    By the middle, since region and template were each rounded to whole pixels: their scales differ, and an
    edge would be off by half of what the template's length gained or lost, always to one side.
    """
    return start + (place + length / 2) * (end - start) / shrunk


def shrink(picture: Grey, factor_x: float, factor_y: float) -> Grey:
    """Return the picture with its sides times these factors, at least 2 pixels each; itself if both are 1."""
    if min(factor_x, factor_y) >= 1.0:
        return picture
    height, width = picture.shape
    return shrunk(picture, (max(2, round(width * factor_x)), max(2, round(height * factor_y))))


class NeighbourRows:
    """Neighbour rows that come block by block, in columns that grow.

    As objects they'd take six times the room, and thousands of small arrays that stay leave holes in memory
    between them that nothing larger fits in.
    """

    def __init__(self) -> None:
        self._columns = [array(kind) for kind in "qhbdd"]

    def add(self, rows: Sequence[NeighbourRow]) -> None:
        """Take the next rows, which may be none."""
        if not rows:
            return
        *columns, tracked = zip(*rows, strict=True)
        for kept, new in zip(self._columns, (*columns, np.concatenate(tracked)), strict=True):
            kept.extend(new)

    def table(self) -> NeighbourTable:
        """Return all rows in the order they came, as they lie here: none can be added any more."""
        candidate, offset, region, ncc, tracked = map(np.asarray, self._columns)
        return NeighbourTable(candidate, offset, region, ncc, tracked.reshape(-1, 4))
