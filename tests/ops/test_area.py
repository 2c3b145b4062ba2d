"""Shrinking by area: OpenCV's answer, and the exact one."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hem.ops import area
from hem.ops.area import shrunk


def exact(picture, size):
    """Return float64: each new pixel as the mean over the square of old ones that it covers."""

    def shares(length, parts):
        low, high = np.arange(parts) * length / parts, np.arange(1, parts + 1) * length / parts
        pixel = np.arange(length)
        common = np.minimum(high[:, None], pixel + 1) - np.maximum(low[:, None], pixel)
        return np.clip(common, 0, None) * parts / length

    return shares(picture.shape[0], size[1]) @ picture @ shares(picture.shape[1], size[0]).T


@st.composite
def pictures(draw):
    height, width = draw(st.integers(2, 300)), draw(st.integers(2, 300))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    picture = rng.integers(0, draw(st.sampled_from([2, 256])), (height, width), dtype=np.uint8)
    return picture, (draw(st.integers(1, width)), draw(st.integers(1, height)))


@given(pictures())
def test_a_pixel_is_the_mean_of_what_it_covers(drawn):
    picture, size = drawn
    small = area._SMALL
    area._SMALL = 0
    try:
        found = shrunk(picture, size)
    finally:
        area._SMALL = small
    assert found.shape == (size[1], size[0]) and found.dtype == np.uint8 and found.flags.c_contiguous
    assert np.abs(found - exact(picture, size)).max() <= 0.5 + 1e-3
    of_opencv = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    assert np.abs(found.astype(int) - of_opencv).max() <= 1


@pytest.mark.parametrize("size", [(55, 60), (37, 61), (230, 250), (77, 251)])
def test_noise_shrinks_as_with_opencv_but_for_one_pixel_in_ten_thousand(size):
    rng = np.random.default_rng(3)
    differing = total = 0
    for _ in range(10):
        picture = rng.integers(0, 256, (251, 231), dtype=np.uint8)
        expected = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        differing += int((shrunk(picture, size) != expected).sum())
        total += expected.size
    assert differing <= total / 10_000


def test_a_part_of_a_picture_shrinks_like_a_copy_of_it():
    picture = np.random.default_rng(1).integers(0, 256, (300, 400), dtype=np.uint8)
    part = picture[20:271, 30:261]
    np.testing.assert_array_equal(shrunk(part, (55, 60)), shrunk(part.copy(), (55, 60)))
