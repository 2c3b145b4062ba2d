"""Cuts and repeats on generated pictures, and on real video where it is there."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from hem.errors import HemError
from hem.mining.frame_flags import FrameFlagger

SHARED = Path(os.environ.get("HEM_SHARED", Path(__file__).resolve().parents[3] / "shared"))


def scene(seed, height=240, width=320):
    """A picture with structure at several scales."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((height, width), dtype=np.float32)
    for cells in (4, 9, 20):
        coarse = rng.random((cells, cells + 1)).astype(np.float32)
        picture += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) / cells**0.5
    picture = (picture - picture.min()) / (picture.max() - picture.min())
    return (20 + 200 * picture).astype(np.uint8)


def noisy(picture, seed, sigma=2.0):
    noise = np.random.default_rng(seed).normal(0, sigma, picture.shape)
    return np.clip(picture + noise, 0, 255).round().astype(np.uint8)


def flags(frames, **settings):
    flagger = FrameFlagger(**settings)
    return [flagger.push(frame, index / 25) for index, frame in enumerate(frames)]


def cuts(frames):
    return [index for index, (cut, _) in enumerate(flags(frames)) if cut]


def duplicates(frames, **settings):
    return [index for index, (_, repeat) in enumerate(flags(frames, **settings)) if repeat]


def test_cuts_are_found_where_they_are():
    frames = [noisy(scene(k // 5), k) for k in range(40)]
    assert cuts(frames) == list(range(5, 40, 5))


def test_the_first_frame_is_neither():
    assert flags([scene(0)]) == [(False, False)]


@pytest.mark.parametrize("speed", [1, 8, 24])
def test_a_pan_is_no_cut(speed):
    wide = scene(3, 240, 320 + 20 * speed)
    assert cuts([noisy(wide[:, k * speed : k * speed + 320], k) for k in range(20)]) == []


def test_a_zoom_is_no_cut():
    big = scene(4, 480, 640)
    frames = []
    for k in range(20):
        part = big[4 * k : 480 - 4 * k, 5 * k : 640 - 5 * k]
        frames.append(noisy(cv2.resize(part, (320, 240), interpolation=cv2.INTER_AREA), k))
    assert cuts(frames) == []


def test_a_large_object_crossing_is_no_cut():
    frames = []
    for k in range(15):
        frame = scene(5).copy()
        frame[60:240, 14 * k : 14 * k + 100] = scene(6)[60:240, :100]
        frames.append(noisy(frame, k))
    assert cuts(frames) == []


def test_lights_going_off_and_on_are_no_cut():
    dim = (scene(7) * 0.35).astype(np.uint8)
    bright = np.clip(scene(7) * 1.15 + 10, 0, 255).astype(np.uint8)
    frames = [scene(7), dim, dim, bright, scene(7)]
    assert cuts([noisy(f, k, 1.0) for k, f in enumerate(frames)]) == []


def test_a_saturated_flash_is_no_cut():
    white = np.full((240, 320), 255, dtype=np.uint8)
    half = np.clip(scene(8).astype(np.int64) * 3, 0, 255).astype(np.uint8)
    frames = [scene(8)] * 2 + [white] + [scene(8)] * 2 + [half] + [scene(8)] * 2
    assert cuts([noisy(f, k, 1.0) for k, f in enumerate(frames)]) == []


@pytest.mark.parametrize("length", [1, 2])
def test_a_strange_picture_between_gives_one_cut_not_two(length):
    frames = [scene(9)] * 3 + [scene(10)] * length + [scene(9)] * 3
    assert cuts([noisy(f, k) for k, f in enumerate(frames)]) == [3]


def test_a_longer_one_gives_two():
    frames = [scene(9)] * 3 + [scene(10)] * 3 + [scene(9)] * 3
    assert cuts([noisy(f, k) for k, f in enumerate(frames)]) == [3, 6]


def faded(picture, share):
    return (picture * share).round().astype(np.uint8)


def test_a_fade_through_black_to_another_scene_is_one_cut():
    out = [faded(scene(11), share) for share in np.linspace(1, 0, 8)]
    back = [faded(scene(12), share) for share in np.linspace(0, 1, 8)]
    found = cuts([noisy(f, k, 0.6) for k, f in enumerate(out + back)])
    assert len(found) == 1 and 8 < found[0] < 13


def test_a_fade_through_black_to_the_same_scene_is_none():
    out = [faded(scene(11), share) for share in np.linspace(1, 0, 8)]
    assert cuts([noisy(f, k, 0.6) for k, f in enumerate(out + out[::-1])]) == []


def test_dark_noise_is_no_cut():
    black = np.zeros((240, 320), dtype=np.uint8)
    assert flags([noisy(black, k, 3.0) for k in range(10)]) == [(False, False)] * 10


def test_another_size_is_a_cut():
    small = scene(13, 120, 160)
    assert flags([scene(13), small, small]) == [(False, False), (True, False), (False, True)]


def test_exact_repeats_are_duplicates_and_a_quiet_noisy_scene_is_not():
    frames = [noisy(scene(14), seed, 0.6) for seed in (0, 1, 1, 1, 2, 3)]
    assert duplicates(frames) == [2, 3]


def test_a_repeat_after_compression_is_a_duplicate():
    frame = noisy(scene(15), 0)
    ok, code = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 92])
    packed = cv2.imdecode(code, cv2.IMREAD_GRAYSCALE)
    again = cv2.imdecode(cv2.imencode(".jpg", packed, [cv2.IMWRITE_JPEG_QUALITY, 92])[1], 0)
    assert ok and not np.array_equal(packed, again)
    assert duplicates([packed, again]) == [1]


def test_a_small_thing_that_moves_is_seen_in_a_frozen_looking_scene():
    frames = []
    for k in range(6):
        frame = scene(16).copy()
        frame[100:118, 50 + 6 * k : 62 + 6 * k] = 255
        frames.append(frame)
    assert duplicates(frames) == []


def test_the_mean_limit_is_inclusive():
    one = np.full((90, 120), 100, dtype=np.uint8)
    other = one.copy()
    other[:, ::2] += 1  # a mean difference of exactly 0.5
    assert duplicates([one, other], duplicate_level=0.5) == [1]
    assert duplicates([one, other], duplicate_level=0.4999) == []


def test_a_slow_fade_is_not_one_long_run():
    frames = [np.clip(scene(17).astype(np.int64) + k // 2, 0, 255).astype(np.uint8) for k in range(12)]
    assert len(duplicates(frames)) == 6
    slower = []
    for k in range(30):  # each step is under the limit, the sum is not
        frame = scene(17).copy()
        frame[:, : 10 * k] += 1
        slower.append(frame)
    assert 0 < len(duplicates(slower)) < 29


def test_the_frame_is_not_written_to():
    frame = scene(18)
    before = frame.copy()
    flags([frame, frame])
    assert np.array_equal(frame, before)


@pytest.mark.parametrize(
    ("frame", "time_s"),
    [
        (np.zeros((4, 4, 3), dtype=np.uint8), 1.0),
        (np.zeros((4, 4)), 1.0),
        (np.zeros((4, 4), dtype=np.uint8), 0.0),
    ],
)
def test_what_is_no_next_frame_is_refused(frame, time_s):
    flagger = FrameFlagger()
    flagger.push(np.zeros((4, 4), dtype=np.uint8), 0.0)
    with pytest.raises(HemError, match="frame flags"):
        flagger.push(frame, time_s)


@pytest.mark.parametrize("settings", [{"cut_ncc": 1.0}, {"cut_ncc": -1.0}, {"duplicate_level": -0.1}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(HemError, match="frame flags"):
        FrameFlagger(**settings)


@pytest.mark.parametrize(
    "name",
    [
        "mot/TUD-Stadtmitte/TUD-Stadtmitte.mp4",
        "mot/KITTI-17/KITTI-17.mp4",
        "face_video/opencv_david/david.webm",
    ],
)
def test_real_video_without_cuts_has_none(name):
    path = SHARED / "data" / name
    if not path.is_file():
        pytest.skip(f"{path} is not there; set HEM_SHARED to the folder with the real videos")
    capture, frames = cv2.VideoCapture(str(path)), []
    while len(frames) < 150:
        there, picture = capture.read()
        if not there:
            break
        frames.append(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY))
    assert len(frames) > 100
    assert cuts(frames) == []
    assert duplicates(frames) == []
