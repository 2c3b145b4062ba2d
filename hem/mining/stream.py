"""The published rule straight from frames and detections: one forward pass, few matches, two threads."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hem.mining.matching import PixelTemplate
from hem.mining.paper import PaperJudge, PaperThresholds, Tracked, paper_table
from hem.mining.table import MinedTable
from hem.ops.ahead import ahead
from hem.ops.grey import grey_of_rgb
from hem.structures import GreyPicture, VideoDetections

Read = Callable[[NDArray[np.bool_]], Iterable[tuple[int, GreyPicture]]]
"""Given bool (F,) of the frames wanted, yields (frame index, picture) of those, in order; see to_grey."""
_DEPTH = 16  # pictures read ahead


def to_grey(picture: GreyPicture, channel_order: str = "rgb") -> GreyPicture:
    """Return uint8 (H, W) by OpenCV's conversion; (H, W) pictures are grey already.

    Args:
        picture: uint8 (H, W, 3) or (H, W), or a LazyGrey.
        channel_order: ``rgb`` or ``bgr``.
    """
    if not isinstance(picture, np.ndarray) or picture.ndim == 2:
        return picture
    return grey_of_rgb(picture, channel_order)


class _Pictures:
    """The pictures at hand, and what PaperJudge asks of them; a candidate is dealt with in one thread."""

    def __init__(self, detections: VideoDetections, thresholds: PaperThresholds) -> None:
        self.held: dict[int, GreyPicture] = {}
        self._detections, self._thresholds = detections, thresholds
        self._templates: dict[int, PixelTemplate] = {}  # of the candidates in work

    def match(self, row: int, offset: int) -> tuple[float, NDArray[np.float64]] | None:
        """See hem.mining.paper.Match."""
        other = self._other(row, offset)
        return None if other is None else self._template(row).match(other)

    def shows(
        self, row: int, offset: int, tracked: Tracked | None, elsewhere: NDArray[np.int64]
    ) -> NDArray[np.float64] | None:
        """See hem.mining.paper.Shows: look where it would be if it went on as it did before, or stayed."""
        other = self._other(row, offset)
        if other is None:
            return None
        left, top = self._detections.boxes_xyxy[row, :2].astype(np.int64).tolist()
        tried = [(left, top)]
        if tracked:
            (x, y), further = tracked[1][:2].tolist(), offset / tracked[0]
            moved = round((x - left) * further), round((y - top) * further)
            tried = list(dict.fromkeys(((left + moved[0], top + moved[1]), (left, top))))
        return self._template(row).shows(other, tried, elsewhere, self._thresholds.ncc_threshold)

    def forget(self, row: int) -> None:
        """Let go of a candidate's template."""
        self._templates.pop(row, None)

    def _other(self, row: int, offset: int) -> GreyPicture | None:
        """Return the picture ``offset`` frames from a candidate; None if it or the candidate's is missing."""
        frame = int(self._detections.frame_index[row])
        return self.held.get(frame + offset) if frame in self.held else None

    def _template(self, row: int) -> PixelTemplate:
        if row not in self._templates:
            found, margin = self._detections, self._thresholds.search_margin
            picture, size = self.held[int(found.frame_index[row])], (found.video.width, found.video.height)
            self._templates[row] = PixelTemplate(picture, found.boxes_xyxy[row], margin, size)
        return self._templates[row]


def stream_paper(
    judge: PaperJudge, read: Read, *, channel_order: str = "rgb", threads: int = 2
) -> MinedTable:
    """Mine one video by the published rule in one forward pass.

    Args:
        judge: of the detections of every frame; picture k belongs to frame k, and the number of frames is
            theirs.
        read: gives the pictures of the frames asked for. It runs in a thread of its own, so that
            decoding and matching overlap; frames nobody asked for may be skipped undecoded.
        channel_order: of the pictures, ``rgb`` or ``bgr``.
        threads: that match templates; the result does not depend on it.

    A frame that ``read`` does not give (a damaged stretch) makes the sides that need it not isolated.
    """
    detections, thresholds, wanted = judge.detections, judge.thresholds, judge.frames_needed
    pictures = _Pictures(detections, thresholds)
    judged = partial(judge.isolated, match=pictures.match, shows=pictures.shows)
    negatives: list[int] = []
    waiting = deque(judge.work.undecided.tolist())
    asked: deque[tuple[int, Future[bool]]] = deque()

    def settle(most: int) -> None:
        """Take verdicts until at most ``most`` are outstanding, and let go of pictures that are past."""
        while len(asked) > most or (asked and asked[0][1].done()):
            row, verdict = asked.popleft()
            if verdict.result():
                negatives.append(row)
            pictures.forget(row)
        rows = [asked[0][0]] if asked else list(waiting)[:1]
        first = min((int(detections.frame_index[row]) for row in rows), default=len(wanted) + reach)
        for old in [key for key in pictures.held if key < first - reach]:
            del pictures.held[old]

    reach = thresholds.window
    with ThreadPoolExecutor(threads) as pool:
        for frame, grey in ahead(_grey(read(wanted), wanted, channel_order), _DEPTH):
            pictures.held[frame] = grey
            # a frame whose neighbours are all here is matched while later ones are being decoded
            while waiting and detections.frame_index[waiting[0]] + reach <= frame:
                row = waiting.popleft()
                asked.append((row, pool.submit(judged, row)))
            settle(8 * threads)
            if not waiting:
                break
        asked.extend((row, pool.submit(judged, row)) for row in waiting)
        waiting.clear()
        settle(0)
    return paper_table(detections, judge.work, np.array(sorted(negatives), dtype=np.int64))


def _grey(
    frames: Iterable[tuple[int, GreyPicture]], wanted: NDArray[np.bool_], channel_order: str
) -> Generator[tuple[int, GreyPicture], None, None]:
    for frame, picture in frames:
        if frame >= len(wanted):
            return
        if wanted[frame]:
            yield frame, to_grey(picture, channel_order)
