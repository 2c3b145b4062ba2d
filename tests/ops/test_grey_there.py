"""Grey by whole numbers, on any device, is OpenCV's for every colour there is."""

import cv2
import numpy as np
import pytest
import torch

from hem.mining import packed_grey
from hem.ops.grey_there import grey_there
from hem.video.grouping import grey_picture

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]


@pytest.mark.parametrize("device", DEVICES)
def test_every_colour_comes_out_as_opencv_makes_it(device):
    green, blue = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    for red in range(256):
        rgb = np.stack([np.full((256, 256), red), green, blue], axis=2).astype(np.uint8)
        found = grey_there(torch.from_numpy(rgb).permute(2, 0, 1).to(device))
        assert found.dtype == torch.uint8 and found.device.type == device
        np.testing.assert_array_equal(found.cpu().numpy(), cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))


class Elsewhere(torch.Tensor):
    """A tensor that says that it lies on a GPU."""

    @property
    def device(self):
        return torch.device("cuda")


def test_pictures_on_a_gpu_come_over_in_grey(monkeypatch):
    """Of each pixel one byte is fetched; the colours are never put in order on the CPU."""
    rng = np.random.default_rng(0)
    pictures = torch.from_numpy(rng.integers(0, 256, (2, 3, 20, 30), dtype=np.uint8))
    expected = [cv2.cvtColor(one.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2GRAY) for one in pictures]
    monkeypatch.setattr(packed_grey, "PackedGrey", lambda rgb: pytest.fail("made from colours"))
    found = packed_grey.greys_of(pictures.as_subclass(Elsewhere))
    assert len(found) == 2
    for grey, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(grey, wanted)
    np.testing.assert_array_equal(grey_picture(pictures[0]), expected[0])
