"""Where a candidate's picture is found again: without a side that is preferred, and whole at the border."""

import cv2
import numpy as np
import pytest

from hem.mining.matching import BoxTemplate

WIDTH, HEIGHT = 420, 360


def scene(seed: int, size: tuple[int, int], reach: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple]:
    """Return two pictures of one object, its box in the first, and how far it has moved in the second."""
    rng = np.random.default_rng(seed)
    back = cv2.GaussianBlur(rng.uniform(0, 255, (HEIGHT, WIDTH)), (0, 0), 3)
    back = (back - back.mean()) * 5 + 128
    width, height = size
    picture = cv2.resize(rng.uniform(0, 255, (6, 6)), size, interpolation=cv2.INTER_CUBIC)
    x, y = int(rng.integers(60, WIDTH - width - 60)), int(rng.integers(60, HEIGHT - height - 60))
    dx, dy = (int(step) for step in rng.uniform(-reach, reach, 2) * max(size))
    dx, dy = (
        int(np.clip(x + dx, 0, WIDTH - width)) - x,
        int(np.clip(y + dy, 0, HEIGHT - height)) - y,
    )
    one, other = back.copy(), back.copy()
    one[y : y + height, x : x + width] = picture
    other[y + dy : y + dy + height, x + dx : x + dx + width] = picture
    one, other = (np.clip(each, 0, 255).astype(np.uint8) for each in (one, other))
    return one, other, np.array([x, y, x + width, y + height], dtype=np.float64), (dx, dy)


@pytest.mark.parametrize("size", [(40, 40), (100, 100), (90, 61), (120, 30), (30, 140), (200, 34)])
def test_a_tracked_place_prefers_no_side(size):
    off = []
    for seed in range(60):
        one, other, box, (dx, dy) = scene(seed, size, 0.5)
        _, place = BoxTemplate(one, box, 0.75, 24).find(other)
        np.testing.assert_allclose(place[2:] - place[:2], box[2:] - box[:2])
        off.append(place[:2] - box[:2] - (dx, dy))
    step = max(size) / 24  # one pixel of the shrunk picture: no place is told more finely
    assert np.abs(off).max() < step
    assert np.abs(np.mean(off, axis=0)).max() < 0.2 * step


def test_a_mirrored_picture_is_found_at_the_mirrored_place():
    for seed in range(60):
        rng = np.random.default_rng(seed)
        one, other, box, _ = scene(seed, tuple(rng.integers(12, 160, 2).tolist()), 0.5)
        box += rng.uniform(-0.9, 0.9, 4)  # edges between pixels too
        ncc, place = BoxTemplate(one, box, 0.75, 24).find(other)
        for flip, low, side in ((np.fliplr, 0, WIDTH), (np.flipud, 1, HEIGHT)):
            mirrored = box.copy()
            mirrored[[low, low + 2]] = side - box[[low + 2, low]]
            again, there = BoxTemplate(flip(one).copy(), mirrored, 0.75, 24).find(flip(other).copy())
            there[[low, low + 2]] = side - there[[low + 2, low]]
            assert again == pytest.approx(ncc, abs=1e-5)
            np.testing.assert_allclose(there, place, atol=1e-6)


@pytest.mark.parametrize("out", [(14, 0), (0, 9), (20, 12)])
def test_a_box_that_reaches_over_the_border_is_found_whole(out):
    one, other, box, (dx, dy) = scene(3, (60, 60), 0.5)
    x, y = (int(edge) for edge in box[:2])
    one, other = one[y + out[1] :, x + out[0] :], other[y + out[1] :, x + out[0] :]
    other = np.roll(other, (-dy + 5, -dx + 8), (0, 1))  # moved by (8, 5), into the frame
    other = cv2.copyMakeBorder(other, 0, 1, 0, 1, cv2.BORDER_REPLICATE)
    cut = np.array([-out[0], -out[1], 60 - out[0], 60 - out[1]], dtype=np.float64)
    ncc, place = BoxTemplate(np.ascontiguousarray(one), cut, 0.75, 60).find(other)
    assert ncc > 0.9
    np.testing.assert_allclose(place - cut, (8, 5, 8, 5), atol=1)
