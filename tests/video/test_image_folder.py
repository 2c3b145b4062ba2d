"""Folders of images: which are lost and why, whatever is selected; more than 8 bits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hem.errors import HemError
from hem.structures import VideoInfo, VideoReport
from hem.video.manifest import frames_as_video
from hem.video.source import open_source

SELECTIONS: list[dict[str, Any]] = [{}, {"only": [1]}, {"only": [4]}, {"stride": 3}, {"start_frame": 3}]


def plain(path: Path, height: int = 6, width: int = 8, value: int = 50, **saved: Any) -> None:
    Image.fromarray(np.full((height, width, 3), value, dtype=np.uint8)).save(path, **saved)


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def read(folder: Path, **settings: Any) -> tuple[dict[int, np.ndarray], VideoReport]:
    """Frames as {number: (3, H, W)}, and the report."""
    with open_source(VideoInfo("v", path=str(folder), fps=10.0), **settings) as source:
        frames = {
            int(index): batch.frames[row].numpy()
            for batch in source
            for row, index in enumerate(batch.frame_indices)
        }
        return frames, source.report()


@pytest.mark.parametrize("selection", SELECTIONS)
def test_what_is_lost_does_not_depend_on_what_is_selected(tmp_path: Path, selection: dict[str, Any]) -> None:
    for k in range(8):
        plain(tmp_path / f"{k}.png", *((6, 8) if k not in (1, 3) else (4, 5)))
    (tmp_path / "5.png").write_bytes(b"no image")
    found, report = read(tmp_path, **selection)
    assert [(gap.first_frame, gap.end_frame) for gap in report.gaps] == [(1, 2), (3, 4), (5, 6)]
    assert "1.png is 5x4" in report.gaps[0].reason and "5.png cannot be read" in report.gaps[2].reason
    assert not set(found) & {1, 3, 5} and report.video.n_frames == 8


def test_the_size_is_that_of_the_first_image_that_can_be_read(tmp_path: Path) -> None:
    for k in range(4):
        plain(tmp_path / f"{k}.png", *((4, 5) if k == 1 else (6, 8)))
    (tmp_path / "0.png").write_bytes((tmp_path / "0.png").read_bytes()[:50])
    for only in ([1], [2], None):
        found, report = read(tmp_path, only=only)
        assert set(found) == {1} & set(only or [1])
        assert [(gap.first_frame, gap.end_frame) for gap in report.gaps] == [(0, 1), (2, 4)]


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("only", [None, [0]])
def test_images_turned_by_exif_have_the_size_that_they_are_shown_in(
    tmp_path: Path, suffix: str, only: list[int] | None
) -> None:
    plain(tmp_path / f"0.{suffix}", 6, 8)
    plain(tmp_path / f"1.{suffix}", 8, 6, exif=turned(6))
    plain(tmp_path / f"2.{suffix}", 6, 8, exif=turned(6))
    plain(tmp_path / f"3.{suffix}", 6, 8, exif=turned(3))
    found, report = read(tmp_path, only=only)
    assert [(gap.first_frame, gap.end_frame) for gap in report.gaps] == [(2, 3)]
    assert "6x8" in report.gaps[0].reason and all(frame.shape == (3, 6, 8) for frame in found.values())


@pytest.mark.parametrize("name", ["0.png", "0.tif", "0.ppm"])
def test_of_sixteen_bits_the_upper_eight_are_kept(tmp_path: Path, name: str) -> None:
    values = (np.arange(48).reshape(6, 8) * 1365).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / name)
    assert frames_as_video(tmp_path, 10.0).width == 8
    found, report = read(tmp_path)
    assert not report.gaps and (found[0] == values >> 8).all()


def test_whole_numbers_of_32_bits_are_taken_as_16_where_they_fit(tmp_path: Path) -> None:
    values = np.arange(48, dtype=np.int32).reshape(6, 8) * 1365
    Image.fromarray(values).save(tmp_path / "0.tif")
    Image.fromarray(values * 2).save(tmp_path / "1.tif")
    Image.fromarray(values - 1).save(tmp_path / "2.tif")
    found, report = read(tmp_path)
    assert (found[0] == values >> 8).all() and set(found) == {0}
    assert [(gap.first_frame, gap.end_frame) for gap in report.gaps] == [(1, 3)]
    assert "1.tif has Pillow's mode I " in report.gaps[0].reason


def test_floating_point_is_refused(tmp_path: Path) -> None:
    plain(tmp_path / "0.tif")
    Image.fromarray(np.full((6, 8), 0.5, dtype=np.float32)).save(tmp_path / "1.tif")
    found, report = read(tmp_path)
    assert set(found) == {0} and "1.tif has Pillow's mode F" in report.gaps[0].reason
    (tmp_path / "0.tif").unlink()
    with pytest.raises(HemError, match=r"1\.tif has Pillow's mode F"):
        frames_as_video(tmp_path, 10.0)


@pytest.mark.parametrize("only", [None, [0]])
def test_too_large_an_image_is_a_gap_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only: list[int] | None
) -> None:
    for k in range(3):
        plain(tmp_path / f"{k}.png", *((60, 60) if k == 1 else (6, 8)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    _, report = read(tmp_path, only=only)
    assert [(gap.first_frame, gap.end_frame) for gap in report.gaps] == [(1, 2)]
    assert "1.png" in report.gaps[0].reason and "3600 pixels" in report.gaps[0].reason
    (tmp_path / "0.png").unlink()
    with pytest.raises(HemError, match=r"1\.png .*3600 pixels"):
        frames_as_video(tmp_path, 10.0)
