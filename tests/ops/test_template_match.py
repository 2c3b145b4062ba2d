import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hem.errors import HemError
from hem.ops.template_match import best_match_opencv, best_matches_torch, match_templates, ncc_maps, ncc_of


def reference(template, region):
    """Direct summation in float64."""
    t = template.astype(np.float64)
    t0 = t - t.mean()
    windows = np.lib.stride_tricks.sliding_window_view(region.astype(np.float64), t.shape)
    w0 = windows - windows.mean((2, 3), keepdims=True)
    if not t0.any():
        return np.ones(windows.shape[:2])
    energy = (w0**2).sum((2, 3)) * (t0**2).sum()
    flat = np.ptp(windows, axis=(2, 3)) == 0
    return np.where(flat, 0.0, (w0 * t0).sum((2, 3)) / np.sqrt(np.where(flat, 1.0, energy)))


def picture(rng, height, width):
    """Blocks of texture and of nothing, as real frames have."""
    out = rng.integers(0, 256, (height, width), dtype=np.uint8)
    out[: height // 3, : width // 2] = 255
    return cv2.GaussianBlur(out, (3, 3), 0) if rng.random() < 0.5 else out


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 14), st.integers(1, 14), st.integers(0, 20), st.integers(0, 20))
def test_maps_equal_direct_summation(seed, height, width, more_y, more_x):
    rng = np.random.default_rng(seed)
    region = picture(rng, height + more_y, width + more_x)
    y, x = int(rng.integers(0, more_y + 1)), int(rng.integers(0, more_x + 1))
    template = region[y : y + height, x : x + width]
    maps = ncc_maps(torch.from_numpy(template.copy())[None], torch.from_numpy(region)[None])
    np.testing.assert_allclose(maps[0].numpy(), reference(template, region), atol=1e-5)


def test_a_batch_of_different_sizes_equals_opencv_and_one_by_one():
    rng = np.random.default_rng(3)
    templates, regions = [], []
    for _ in range(24):
        height, width = rng.integers(8, 40, 2)
        region = picture(rng, height + rng.integers(0, 60), width + rng.integers(0, 60))
        y = int(rng.integers(0, region.shape[0] - height + 1))
        x = int(rng.integers(0, region.shape[1] - width + 1))
        noise = rng.integers(-20, 21, (height, width))
        templates.append(np.clip(region[y : y + height, x : x + width] + noise, 0, 255).astype(np.uint8))
        regions.append(region)
    best, places = match_templates(templates, regions, "torch")
    theirs, their_places = match_templates(templates, regions, "opencv")
    np.testing.assert_allclose(best, theirs, atol=5e-4)
    np.testing.assert_array_equal(places, their_places)
    for template, region, score, (x, y) in zip(templates, regions, best, places, strict=True):
        direct = reference(template, region)
        assert abs(direct.max() - score) < 1e-5
        assert abs(direct[y, x] - direct.max()) < 1e-9


@pytest.mark.parametrize("backend", ["opencv", "torch"])
def test_constants(backend):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (20, 20), dtype=np.uint8)
    flat = np.full((5, 5), 77, dtype=np.uint8)
    best, places = match_templates([flat], [noise], backend)
    assert best[0] == 1 and places[0].tolist() == [0, 0]  # a constant template correlates everywhere
    best, _ = match_templates([noise[:5, :5]], [np.full((9, 9), 200, dtype=np.uint8)], backend)
    assert best[0] == 0  # a constant region with nothing


def test_the_first_of_equal_maxima():
    rng = np.random.default_rng(1)
    tile = rng.integers(0, 256, (6, 6), dtype=np.uint8)
    region = np.full((20, 30), 128, dtype=np.uint8)
    for y, x in ((12, 3), (2, 20), (12, 20)):
        region[y : y + 6, x : x + 6] = tile
    best, places = match_templates([tile], [region], "torch")  # OpenCV's own rounding breaks such ties
    assert abs(best[0] - 1) < 1e-6 and places[0].tolist() == [20, 2]


def test_template_as_large_as_its_region():
    tile = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert best_match_opencv(tile, tile)[1:] == (0, 0)
    best, places = best_matches_torch([torch.from_numpy(tile)], [torch.from_numpy(tile)])
    assert abs(float(best[0]) - 1) < 1e-9 and places.tolist() == [[0, 0]]


def test_nothing_to_match_and_what_cannot_fit():
    best, places = best_matches_torch([], [])
    assert best.shape == (0,) and places.shape == (0, 2)
    with pytest.raises(HemError, match="fit"):
        best_matches_torch([torch.zeros(4, 4)], [torch.zeros(3, 9)])
    with pytest.raises(HemError, match="backend"):
        match_templates([], [], "fast")


@pytest.mark.parametrize("seed", range(4))
def test_one_place_equals_direct_summation(seed):
    rng = np.random.default_rng(seed)
    picture = (rng.random((90, 120)) ** 0.3 * 255).astype(np.uint8)  # mostly bright: large sums
    one, other = picture[3:70, 5:60], picture[9:76, 40:95]
    a, b = one.astype(np.float64) - one.mean(), other.astype(np.float64) - other.mean()
    expected = (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
    assert ncc_of(one, other) == pytest.approx(expected, abs=1e-12)
    assert ncc_of(one, one) == pytest.approx(1.0, abs=1e-12)


def test_one_place_without_contrast_is_nothing():
    flat, steep = np.full((30, 30), 90, dtype=np.uint8), np.arange(900, dtype=np.uint16).reshape(30, 30) % 251
    faint = flat + (np.indices((30, 30)).sum(axis=0) % 2 * 3).astype(np.uint8)  # standard deviation 1.5
    assert ncc_of(flat, steep.astype(np.uint8)) == ncc_of(faint, faint) == 0.0
