"""Writing videos."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hem.errors import HemError
from hem.video.writer import write_video

MakeVideo = Callable[..., Path]
FRAME = np.zeros((16, 16, 3), dtype=np.uint8)


def test_same_frames_same_bytes(make_video: MakeVideo) -> None:
    assert make_video("a.mp4", n=8).read_bytes() == make_video("b.mp4", n=8).read_bytes()
    assert make_video("c.mp4", n=8, crf=40).stat().st_size < make_video("d.mp4", n=8, crf=5).stat().st_size


def test_bit_rate_replaces_quality(make_video: MakeVideo) -> None:
    low = make_video("low.mp4", n=40, height=144, width=176, bit_rate=20_000)
    high = make_video("high.mp4", n=40, height=144, width=176, bit_rate=2_000_000)
    assert low.stat().st_size * 2 < high.stat().st_size


@pytest.mark.parametrize(
    ("frames", "settings", "message"),
    [
        ([], {}, "no frame"),
        ([FRAME, FRAME[:8]], {}, "one size"),
        ([FRAME.astype(float)], {}, "uint8"),
        ([FRAME[..., 0]], {}, "uint8"),
        ([FRAME], {"fps": 0.0}, "fps"),
        ([FRAME], {"codec": "no_such"}, "no_such"),
        ([FRAME, FRAME], {"times_s": [0.0]}, "times_s"),
        ([FRAME, FRAME], {"times_s": [0.0, 0.0]}, "strictly"),
        ([FRAME], {"times_s": [0.0, 1.0]}, "2 times for 1"),
    ],
)
def test_wrong_input_leaves_nothing(
    tmp_path: Path, frames: list[np.ndarray], settings: dict[str, object], message: str
) -> None:
    settings = {"fps": 25.0, **settings}
    with pytest.raises(HemError, match=message):
        write_video(tmp_path / "a.mp4", frames, **settings)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_suffix_must_be_known(tmp_path: Path) -> None:
    with pytest.raises(HemError, match="gif"):
        write_video(tmp_path / "a.gif", [FRAME], 25)


def test_an_error_of_the_frames_is_passed_on_and_leaves_nothing(tmp_path: Path) -> None:
    def frames():  # type: ignore[no-untyped-def]
        yield FRAME
        raise KeyError("mine")

    with pytest.raises(KeyError):
        write_video(tmp_path / "a.mp4", frames(), 25)
    assert not list(tmp_path.iterdir())
