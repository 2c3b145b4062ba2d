"""Backbones by name."""

import pytest
import torch
from torch import nn

from hem.detectors.backbones import BackboneSpec, Pyramid, build_body, group_norm, level_sizes
from hem.errors import HemError


@pytest.mark.parametrize(
    ("name", "strides"),
    [
        ("resnet18", (4, 8, 16, 32)),
        ("shufflenet_v2_x0_5", (8, 16, 32)),
        ("mobilenet_v3_small", (8, 16, 32)),
        ("efficientnet_b0", (8, 16)),
        ("regnet_y_400mf", (8, 16, 32)),
        ("vgg11", (8, 16)),
        ("timm:resnet18", (8, 16)),
        ("mobilenetv3_small_050", (8, 16)),
    ],
)
def test_maps_have_the_strides_asked_for(name, strides):
    pyramid = Pyramid(BackboneSpec(name, strides=strides, channels=8)).eval()
    with torch.no_grad():
        maps = list(pyramid(torch.zeros(1, 3, 64, 64)).values())
    assert [64 // level.shape[2] for level in maps] == [*strides, strides[-1] * 2]
    assert {level.shape[1] for level in maps} == {8} and pyramid.levels == len(maps)


def test_extra_levels():
    spec = BackboneSpec("mobilenetv3_small_050", strides=(8, 16), channels=8, extra_levels="p6p7")
    assert len(Pyramid(spec)(torch.zeros(2, 3, 64, 64))) == 4
    with pytest.raises(HemError, match="extra_levels"):
        Pyramid(BackboneSpec("mobilenetv3_small_050", strides=(8,), extra_levels="more"))


def test_names_that_do_not_exist():
    with pytest.raises(HemError, match="resnet1000"):
        build_body(BackboneSpec("resnet1000"))
    with pytest.raises(HemError, match="write timm:NAME"):
        build_body(BackboneSpec("hub:resnet18"))
    with pytest.raises(HemError, match=r"no features of stride 64, only \[2, 4, 8, 16, 32\]"):
        build_body(BackboneSpec("resnet18", strides=(8, 64)))
    with pytest.raises(HemError, match="no plain chain"):
        build_body(BackboneSpec("vit_b_16", strides=(8,)))


def test_norms():
    def kinds(norm, momentum=None):
        spec = BackboneSpec("mobilenet_v3_small", norm=norm, bn_momentum=momentum, strides=(8,))
        return build_body(spec)[0]

    assert {m.momentum for m in kinds(None).modules() if isinstance(m, nn.BatchNorm2d)} == {0.01}
    assert {m.momentum for m in kinds(None, 0.1).modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}
    group = kinds("group")
    assert not any(isinstance(m, nn.BatchNorm2d) for m in group.modules())
    assert any(isinstance(m, nn.GroupNorm) for m in group.modules())
    frozen = kinds("frozen").train()
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    frozen(torch.rand(2, 3, 64, 64))
    assert all(torch.equal(before[name], value) for name, value in frozen.state_dict().items())
    with pytest.raises(HemError, match="backbone_norm"):
        kinds("layer")
    with pytest.raises(HemError, match="bn_momentum"):
        kinds(None, 0.0)


@pytest.mark.parametrize(
    ("channels", "groups"), [(1, 1), (2, 1), (6, 3), (16, 8), (64, 32), (72, 24), (96, 32)]
)
def test_group_norm_divides(channels, groups):
    assert group_norm(channels).num_groups == groups


def test_group_norm_keeps_activations():
    spec = BackboneSpec("mobilenetv3_small_050", norm="group", strides=(8,))
    plain = build_body(BackboneSpec("mobilenetv3_small_050", strides=(8,)))[0]
    count = lambda body: sum(isinstance(m, nn.ReLU | nn.Hardswish) for m in body.modules())  # noqa: E731
    assert count(build_body(spec)[0]) == count(plain) > 0


def test_frozen_layers():
    for name in ("resnet18", "timm:resnet18"):
        body, _ = build_body(BackboneSpec(name, strides=(8, 16), trainable_layers=1))
        states = [any(p.requires_grad for p in part.parameters()) for part in body.children()]
        assert states[-1] and not states[0]
        body, _ = build_body(BackboneSpec(name, strides=(8, 16), trainable_layers=0))
        assert not any(p.requires_grad for p in body.parameters())
    with pytest.raises(HemError, match="trainable_layers"):
        build_body(BackboneSpec("resnet18", trainable_layers=-1))


def test_level_sizes():
    spec = BackboneSpec("x", strides=(8, 16))
    assert level_sizes(None, spec, 4) == [32, 64, 128, 256]
    assert level_sizes((10, 20, 30), spec, 3) == [10, 20, 30]
    with pytest.raises(HemError, match="2 sizes for 3 levels"):
        level_sizes((10, 20), spec, 3)
