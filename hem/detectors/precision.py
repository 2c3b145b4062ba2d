"""Box arithmetic in single precision, whatever precision the network computes in.

torchvision makes anchors in the type of the features and decodes boxes in that of the head's answers. Under
autocast both are half precision, whose 8 bits (bfloat16) tell no two pixels beyond 256 apart: anchors,
proposals, what they are matched to and what they are asked to regress would all be rounded.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder, BoxLinearCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

from hem.detectors.contract import adopt

_HALF = (torch.bfloat16, torch.float16)


def _exact(values: Tensor) -> Tensor:
    """Return half precision as float32, all else as it is."""
    return values.float() if values.dtype in _HALF else values


def _shapes(feature_maps: list[Tensor]) -> list[Tensor]:
    """Return maps of the same shapes and device, of which anchors read no more; float32 for half ones."""
    return [
        one.new_zeros(1, dtype=torch.float32).expand(one.shape) if one.dtype in _HALF else one
        for one in feature_maps
    ]


class ExactAnchors(AnchorGenerator):
    """torchvision's anchors, float32 for features of half precision."""

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """Return (A, 4) for each image; see torchvision."""
        return super().forward(image_list, _shapes(feature_maps))


class ExactDefaultBoxes(DefaultBoxGenerator):
    """SSD's default boxes, float32 for features of half precision."""

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """Return (A, 4) for each image; see torchvision."""
        return super().forward(image_list, _shapes(feature_maps))


class ExactCoder(BoxCoder):
    """torchvision's box coder, which decodes answers of half precision in float32."""

    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        """Return boxes (N, 4 C); see torchvision."""
        return super().decode_single(_exact(rel_codes), _exact(boxes))


class ExactLinearCoder(BoxLinearCoder):
    """FCOS's box coder, which decodes answers of half precision in float32."""

    def decode(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        """Return boxes of the shape of ``boxes``; see torchvision."""
        return super().decode(_exact(rel_codes), _exact(boxes))


def keep_boxes_exact(net: nn.Module) -> None:
    """Turn a torchvision detector's anchors and box coders into those of this module, in place."""
    for module in net.modules():
        if type(module) is AnchorGenerator:
            adopt(module, ExactAnchors)
        elif type(module) is DefaultBoxGenerator:
            adopt(module, ExactDefaultBoxes)
        coder: Any = getattr(module, "box_coder", None)
        if type(coder) is BoxCoder:
            coder.__class__ = ExactCoder
        elif type(coder) is BoxLinearCoder:
            coder.__class__ = ExactLinearCoder
