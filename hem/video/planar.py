"""Grey pictures of decoded frames, made only where somebody looks.

Decoders give luma and, for every two by two pixels, colour differences. RGB of a whole 720p frame and grey
of that cost nearly half of what decoding does, and mining looks at a small part of most frames.
"""

import threading
from itertools import pairwise
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from hem.ops.grey import grey_of_rgb
from hem.ops.thinning import thinned

Picture = NDArray[np.uint8]

_FORMATS = ("yuv420p", "yuvj420p")
_ALIGN_X, _ALIGN_Y = 32, 4  # columns that converters work on at once; rows that PyAV lays out as FFmpeg does
_MOST = 0.5  # of the frame; when more was made in parts, the whole is made and kept
_EACH = 110_000  # pixels that could be made in the time any part takes
_OF_THREAD = threading.local()
# Conversion has threads of its own since PyAV 17; they only get in the way of those that decode.
_IN_THIS_THREAD: dict[str, Any] = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}


def rgb_of(frame: av.VideoFrame, converter: VideoReformatter, width: int, height: int) -> Picture:
    """Return uint8 (height, width, 3) as OpenCV decodes it, in this thread; valid as long as it is held.

    OpenCV's programs scale colour by bicubic interpolation into BGR, and take interlaced pictures as they
    are. Where colour is not interpolated all ways give the same, and the cheapest is taken.
    """
    interlaced = getattr(frame, "interlaced_frame", False)
    if _is_plain(frame) and (frame.width, frame.height) == (width, height) and not interlaced:
        return _pixels(converter.reformat(frame, width, height, "rgb24", **_IN_THIS_THREAD))
    settings: dict[str, Any] = {"interpolation": "BICUBIC", **_IN_THIS_THREAD}
    made = converter.reformat(
        _progressive(frame) if interlaced else frame, width, height, "bgr24", **settings
    )
    return np.ascontiguousarray(_pixels(made)[:, :, ::-1])


def _pixels(frame: av.VideoFrame) -> Picture:
    plane = frame.planes[0]
    shape, strides = (frame.height, frame.width, 3), (plane.line_size, 3, 1)
    return np.ndarray(shape, np.uint8, memoryview(plane), strides=strides)


def _is_plain(frame: av.VideoFrame) -> bool:
    return frame.format.name in _FORMATS and not frame.height % 2 and not frame.width % 2


def _progressive(frame: av.VideoFrame) -> av.VideoFrame:
    """Return a copy that does not say it is interlaced: its fields would be converted one by one."""
    try:
        copy = av.VideoFrame.from_ndarray(frame.to_ndarray(), format=frame.format.name)
    except ValueError:  # a format that PyAV makes no arrays of
        return frame
    copy.colorspace, copy.color_range = frame.colorspace, frame.color_range
    return copy


class PlanarGrey:
    """OpenCV's grey of a decoded frame's RGB, bit for bit, made where it is looked at.

    A LazyGrey: see hem.structures.grey. May be looked at from several threads. Holds the decoded frame.

    Args:
        frame: one for which ``suits`` is true.
    """

    def __init__(self, frame: av.VideoFrame) -> None:
        self._frame = frame
        self.shape = (frame.height, frame.width)
        self._planes = [
            np.ndarray((height, width), np.uint8, memoryview(plane), strides=(plane.line_size, 1))
            for plane, height, width in zip(
                frame.planes,
                (frame.height, frame.height // 2, frame.height // 2),
                (frame.width, frame.width // 2, frame.width // 2),
                strict=True,
            )
        ]
        self._looked_at = 0
        self._whole: Picture | None = None

    def __getitem__(self, where: tuple[slice, slice]) -> Picture:
        """See LazyGrey."""
        (y0, y1, step_y), (x0, x1, step_x) = (
            one.indices(size) for one, size in zip(where, self.shape, strict=True)
        )
        if self._whole is None and step_y == step_x == 1 and y1 > y0 and x1 > x0:
            return self._part(x0, y0, x1, y1)
        return self._all()[where]

    def _all(self) -> Picture:
        if self._whole is None:
            self._whole = _grey(self._frame)
        return self._whole

    def _part(self, x0: int, y0: int, x1: int, y1: int) -> Picture:
        height, width = self.shape
        left, right = x0 // _ALIGN_X * _ALIGN_X, min(width, -(-x1 // _ALIGN_X) * _ALIGN_X)
        top = y0 // 2 * 2
        bottom = min(height, top - (top - y1) // _ALIGN_Y * _ALIGN_Y)
        top -= (top - bottom) % _ALIGN_Y
        self._looked_at += _EACH + (bottom - top) * (right - left)
        if top < 0 or self._looked_at > _MOST * height * width:
            return self._all()[y0:y1, x0:x1]
        luma, *colours = self._planes
        made = self._made(
            luma[top:bottom, left:right],
            *(plane[top // 2 : bottom // 2, left // 2 : right // 2] for plane in colours),
        )
        return made[y0 - top : y1 - top, x0 - left : x1 - left]

    def thinned(self, step: int) -> Picture:
        """See LazyGrey."""
        if self._whole is not None or step == 1:
            return thinned(self._all(), step)
        luma, *colours = self._planes
        seen = [plane[::step, ::step] for plane in colours]
        height, width = seen[0].shape
        room = height + height % 2, -(-width // (_ALIGN_X // 2)) * (_ALIGN_X // 2)
        blocks = np.zeros((room[0], 2, room[1]), dtype=np.uint16)
        pairs = luma.view(np.uint16)  # of pixels side by side: copied as one
        for row in (0, 1):
            blocks[:height, row, :width] = pairs[row :: 2 * step, ::step]
        padded = [np.zeros(room, dtype=np.uint8) for _ in seen]
        for target, colour in zip(padded, seen, strict=True):
            target[:height, :width] = colour
        made = self._made(blocks.view(np.uint8).reshape(2 * room[0], 2 * room[1]), *padded)
        return np.ascontiguousarray(made[: 2 * height, : 2 * width])

    def _made(self, luma: Picture, *colours: Picture) -> Picture:
        height, width = luma.shape
        room = np.empty((height * 3 // 2, width), dtype=np.uint8)
        room[:height] = luma
        for target, colour in zip(room[height:].reshape(2, height // 2, width // 2), colours, strict=True):
            target[:] = colour
        frame = av.VideoFrame.from_numpy_buffer(room, format=self._frame.format.name)
        frame.colorspace, frame.color_range = self._frame.colorspace, self._frame.color_range
        return _grey(frame)


def suits(frame: av.VideoFrame) -> bool:
    """Whether parts of such a frame come out as they do in the whole: tried on this one, bit for bit.

    Converters of whole frames may treat rows and columns in ways of their own, and the answer depends on
    the build of FFmpeg and the processor; so it is tried and never assumed.
    """
    if not _is_plain(frame):
        return False
    try:
        whole, height, width = _grey(frame), frame.height, frame.width
        rows, columns = [(0, side // 3 + 1, side * 2 // 3, side) for side in (height, width)]
        for y0, y1 in pairwise(rows):
            for x0, x1 in pairwise(columns):
                part = PlanarGrey(frame)[y0:y1, x0:x1]  # a new one, so that none is taken from a whole
                if not np.array_equal(part, whole[y0:y1, x0:x1]):
                    return False
        return all(np.array_equal(PlanarGrey(frame).thinned(k), thinned(whole, k)) for k in (2, 3, 5))
    except (ValueError, TypeError, AttributeError, av.FFmpegError):  # a PyAV that makes no such frames
        return False


def _grey(frame: av.VideoFrame) -> Picture:
    converter = getattr(_OF_THREAD, "converter", None)
    if converter is None:
        converter = _OF_THREAD.converter = VideoReformatter()  # kept: one takes longer to set up than to use
    return grey_of_rgb(rgb_of(frame, converter, frame.width, frame.height))
