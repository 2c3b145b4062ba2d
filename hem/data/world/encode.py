"""H.264 files from raw frames."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray


def encode_h264(
    path: Path, frames: Iterable[NDArray[np.uint8]], fps: int, crf: int, keyframe_every: int
) -> int:
    """Write RGB frames uint8 (H, W, 3), even sides, as an MP4 with H.264; return how many.

    ``crf`` is x264's constant rate factor, 0..51: a higher one saves bits and smears detail. One
    encoder thread, and no macroblock tree: with it x264 writes the first file of a process differently
    from the next.
    """
    count = 0
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, fps)
        stream.options = {
            "crf": str(crf),
            "preset": "veryfast",
            "g": str(keyframe_every),
            "x264-params": "mbtree=0",
        }
        stream.thread_count = 1
        for rgb in frames:
            if count == 0:
                stream.height, stream.width = rgb.shape[:2]
            planes = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420).astype(np.uint8, copy=False)
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = count, Fraction(1, fps)
            container.mux(stream.encode(frame))
            count += 1
        container.mux(stream.encode(None))
    return count
