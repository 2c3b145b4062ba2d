"""What torchcodec is not trusted with, without needing it."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from hem.video import torchcodec_source
from hem.video.reader import ReaderUnsuited, Selection
from hem.video.torchcodec_source import TorchcodecReader


class Decoder:
    def __init__(self, path: str, **options: object) -> None:
        pass

    def __len__(self) -> int:
        return 4


@pytest.mark.parametrize(
    ("times_s", "suited"),
    [
        ([0.0, 0.04, 0.08, 0.12], True),
        ([0.0, 0.04, 0.08, float("nan")], False),
        ([0.0, 0.04, 0.04, 0.12], False),
        ([0.0, 0.04, 0.08], False),
    ],
)
def test_files_whose_times_do_not_rise_or_are_missing_are_left_to_pyav(
    make_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, times_s: list[float], suited: bool
) -> None:
    monkeypatch.setattr(torchcodec_source, "_module", lambda: SimpleNamespace(VideoDecoder=Decoder))
    monkeypatch.setattr(torchcodec_source, "packet_times", lambda path: times_s)
    path = str(make_video(n=4))
    if suited:
        TorchcodecReader(path, 25.0, Selection())
    else:
        with pytest.raises(ReaderUnsuited, match="packets"):
            TorchcodecReader(path, 25.0, Selection())
