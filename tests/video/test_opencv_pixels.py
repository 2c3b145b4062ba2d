"""Pictures are OpenCV's, bit for bit, whatever a file holds: `paper` compares them as its program did."""

from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from hem.video.manifest import probe
from hem.video.source import open_source

Encode = Callable[..., Path]
KINDS = [
    ("ffv1", "yuv420p", (160, 120), {}),
    ("ffv1", "yuv420p", (161, 91), {}),
    ("ffv1", "yuv422p", (99, 67), {}),
    ("ffv1", "yuv444p", (99, 67), {}),
    ("ffv1", "yuv420p10le", (98, 66), {}),
    ("ffv1", "yuv410p", (100, 68), {}),
    ("ffv1", "gray", (99, 67), {}),
    ("rawvideo", "yuyv422", (98, 66), {}),
    ("mpeg4", "yuv420p", (161, 91), {"b": "3000000"}),
    ("mjpeg", "yuvj420p", (161, 91), {}),
    ("libx264", "yuv420p", (160, 120), {"bf": "2"}),
    ("libx264", "yuv444p", (161, 91), {}),
]


def textures(width: int, height: int) -> list[np.ndarray]:
    rng = np.random.default_rng(4)
    small = (height // 6 + 2, width // 6 + 2, 3)
    return [cv2.resize(rng.integers(0, 256, small, dtype=np.uint8), (width, height)) for _ in range(5)]


def greys_of(path: Path, lazily: bool) -> list[np.ndarray]:
    with open_source(probe(path), grey=lazily) as source:
        if lazily:
            return [np.array(one[:, :]) for batch in source.grey_batches() for one in batch.pictures]
        return [
            cv2.cvtColor(np.ascontiguousarray(one.permute(1, 2, 0).numpy()), cv2.COLOR_RGB2GRAY)
            for batch in source
            for one in batch.frames
        ]


@pytest.mark.parametrize(("codec", "pixels", "size", "options"), KINDS, ids=lambda v: str(v).replace(" ", ""))
def test_grey_is_that_of_opencv(
    tmp_path: Path, encode: Encode, codec: str, pixels: str, size: tuple[int, int], options: dict[str, str]
) -> None:
    path = encode(tmp_path / "a.mkv", codec, textures(*size), pixels=pixels, options=options)
    capture, expected = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        expected.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2GRAY))
    if len(expected) != 5:
        pytest.skip("this build of OpenCV does not decode it")
    for lazily in (True, False):
        found = greys_of(path, lazily)
        assert len(found) == 5
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_interlaced_pictures_are_taken_as_they_are(tmp_path: Path, encode: Encode) -> None:
    """OpenCV 4 does so (5 does not decode them): rows of colour belong to the rows beside them."""
    options = {"x264-params": "tff=1:interlaced=1"}
    path = encode(tmp_path / "a.mkv", "libx264", textures(160, 120), options=options)
    expected, flagged = [], 0
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            flagged += frame.interlaced_frame
            plain = av.VideoFrame.from_ndarray(frame.to_ndarray(), format="yuv420p")
            plain.colorspace, plain.color_range = frame.colorspace, frame.color_range
            made = plain.reformat(format="bgr24", interpolation="BICUBIC").to_ndarray()
            expected.append(cv2.cvtColor(made, cv2.COLOR_BGR2GRAY))
    assert flagged == 5
    for lazily in (True, False):
        for one, other in zip(greys_of(path, lazily), expected, strict=True):
            np.testing.assert_array_equal(one, other)
