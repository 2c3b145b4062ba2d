"""The published rule searches all places of a frame only where the answer hangs on the best of them."""

from dataclasses import replace

import numpy as np
import pytest

from hem.mining.matching import PixelTemplate
from hem.mining.paper import PaperJudge, PaperThresholds
from hem.mining.stream import _Pictures, stream_paper
from hem.structures import Kind, VideoDetections, VideoInfo

WIDTH, HEIGHT, FRAMES, AT = 320, 240, 15, 7
BOX = (120.0, 90.0, 160.0, 130.0)
SETTINGS = PaperThresholds(search_margin=40.0, min_area=0.0, border_margin=0.0)


def still_scene(seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)] * FRAMES


def detections(neighbour):
    """One lone candidate, and a box in every other frame."""
    frame = [t for t in range(FRAMES) if t != AT]
    return VideoDetections(
        video=VideoInfo("a.mp4", width=WIDTH, height=HEIGHT, fps=10.0),
        frame_index=np.array(sorted([*frame, AT])),
        boxes_xyxy=np.array([BOX if t == AT else neighbour for t in range(FRAMES)]),
        scores=np.full(FRAMES, 0.9),
        labels=np.ones(FRAMES, dtype=np.int64),
        frame_times_s=np.arange(FRAMES) / 10.0,
    )


def mined(found, frames, monkeypatch, settings=SETTINGS):
    """Return whether the candidate is a hard negative, and how often all places were searched."""
    searched, match = [], _Pictures.match

    def counting(self, row, offset):
        searched.append(row)
        return match(self, row, offset)

    monkeypatch.setattr(_Pictures, "match", counting)
    table = stream_paper(
        PaperJudge(found, settings),
        lambda wanted: ((t, frames[t]) for t in np.flatnonzero(wanted).tolist()),
    )
    rows = table.row[table.of_kind(Kind.HARD_NEGATIVE)].tolist()
    return AT in rows, searched.count(AT)


@pytest.mark.parametrize(
    "neighbour", [(5.0, 5.0, 40.0, 40.0), (152.0, 90.0, 192.0, 130.0)], ids=["out of reach", "within reach"]
)
def test_no_frame_is_searched_whole_where_the_picture_stays(neighbour, monkeypatch):
    assert mined(detections(neighbour), still_scene(), monkeypatch) == (True, 0)


@pytest.mark.parametrize("far", [2, 5])
def test_a_better_place_under_a_neighbour_is_found(far, monkeypatch):
    """Where it was it can still be seen, dimly; but it moved under the detection that explains it."""
    frames = [frame.copy() for frame in still_scene()]
    rng = np.random.default_rng(1)
    x, y, side = int(BOX[0]), int(BOX[1]), 40
    picture = frames[AT][y : y + side, x : x + side].copy()
    dim = (0.8 * picture + 0.2 * rng.integers(0, 256, picture.shape)).astype(np.uint8)
    frames[AT + far][y : y + side, x : x + side] = dim
    frames[AT + far][90:130, 155:195] = picture
    assert mined(detections((155.0, 90.0, 195.0, 130.0)), frames, monkeypatch)[0] is False
    frames[AT + far][90:130, 155:195] = still_scene()[0][90:130, 155:195]
    assert mined(detections((155.0, 90.0, 195.0, 130.0)), frames, monkeypatch)[0] is True


@pytest.mark.parametrize(
    ("pace", "searched"), [(4, 0), (20, 2)], ids=["near", "beyond a quarter of the margin"]
)
def test_what_moves_on_at_its_pace_is_looked_for_there(pace, searched, monkeypatch):
    """Round where it was in the nearest frame, then where its pace takes it."""
    rng = np.random.default_rng(2)
    wide = rng.integers(0, 256, (HEIGHT, WIDTH + 400), dtype=np.uint8)
    frames = [wide[:, pace * t : pace * t + WIDTH] for t in range(FRAMES)]
    found = detections((5.0, 5.0, 40.0, 40.0))
    settings = replace(SETTINGS, window=3, search_margin=70.0 if pace > 4 else 40.0)
    assert mined(found, frames, monkeypatch, settings) == (True, searched)


def test_where_it_was_seen_is_told():
    rng = np.random.default_rng(4)
    grey = rng.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
    moved = np.roll(grey, (3, 7), axis=(0, 1))
    template, nowhere = (
        PixelTemplate(grey, np.array(BOX), 40.0, (WIDTH, HEIGHT)),
        np.zeros((0, 4), dtype=np.int64),
    )
    np.testing.assert_array_equal(template.shows(moved, [(120, 90)], nowhere, 0.5), [127, 93, 167, 133])
    np.testing.assert_array_equal(template.shows(moved, [(127, 93)], nowhere, 0.5), [127, 93, 167, 133])
    there = np.array([[120, 90, 130, 95]])  # where it must not be
    assert template.shows(moved, [(120, 90)], there, 0.5) is None


def test_a_place_outside_the_search_region_says_nothing():
    rng = np.random.default_rng(3)
    grey = rng.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
    other = rng.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
    other[90:130, 230:270] = grey[90:130, 120:160]  # the same picture, 110 pixels on
    box, nowhere = np.array(BOX), np.zeros((0, 4), dtype=np.int64)
    near, far = (PixelTemplate(grey, box, margin, (WIDTH, HEIGHT)) for margin in (40.0, 120.0))
    assert near.match(other)[0] < 0.5
    assert near.shows(other, [(230, 90)], nowhere, 0.5) is None
    assert far.shows(other, [(230, 90)], nowhere, 0.5) is not None


def test_a_picture_without_contrast_is_searched_for_everywhere(monkeypatch):
    """OpenCV calls a constant template found everywhere; nearly constant ones are left to it."""
    frames = [np.full((HEIGHT, WIDTH), 100, dtype=np.uint8)] * FRAMES
    assert mined(detections((5.0, 5.0, 40.0, 40.0)), frames, monkeypatch) == (True, 10)
