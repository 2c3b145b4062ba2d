"""Grey made where it is looked at is, bit for bit, the grey of the whole."""

import cv2
import numpy as np
import pytest
import torch

from hem.mining.packed_grey import PackedGrey, greys_of
from hem.ops.thinning import thinned


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (7, 5), (48, 64), (121, 93)])
def test_parts_and_thinned_pictures_are_those_of_the_whole(size):
    rgb = picture(*size)
    whole = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    rng = np.random.default_rng(1)
    for _ in range(20):
        top, left = (int(rng.integers(0, side)) for side in size)
        bottom, right = int(rng.integers(top, size[0] + 3)), int(rng.integers(left, size[1] + 3))
        part = PackedGrey(rgb)[top:bottom, left:right]
        np.testing.assert_array_equal(part, whole[top:bottom, left:right])
    for step in (1, 2, 3, 5):
        np.testing.assert_array_equal(PackedGrey(rgb).thinned(step), thinned(whole, step))


def test_when_much_was_looked_at_the_whole_is_made_once_and_the_colours_are_let_go():
    rgb = picture(60, 80)
    whole, grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), PackedGrey(rgb)
    parts = [grey[0:30, 0:40] for _ in range(4)]
    assert all(np.array_equal(part, whole[0:30, 0:40]) for part in parts)
    assert np.shares_memory(parts[2], parts[3]) and not np.shares_memory(parts[0], parts[1])
    rgb[:] = 0  # nobody looks at it any more
    np.testing.assert_array_equal(grey[:, :], whole)
    np.testing.assert_array_equal(grey.thinned(3), thinned(whole, 3))


def test_tensors_in_colour_or_grey():
    rgb = np.stack([picture(20, 30, seed) for seed in (0, 1)])
    whole = [cv2.cvtColor(one, cv2.COLOR_RGB2GRAY) for one in rgb]
    packed, planar = (
        torch.from_numpy(rgb).permute(0, 3, 1, 2),
        torch.from_numpy(rgb.transpose(0, 3, 1, 2).copy()),
    )
    for pictures in (packed, planar, torch.from_numpy(np.stack(whole))[:, None]):
        greys = greys_of(pictures)
        assert len(greys) == 2
        for grey, expected in zip(greys, whole, strict=True):
            np.testing.assert_array_equal(grey[:, :], expected)
