"""Weights from other places, and what is said when they do not fit."""

import os
import pickle

import pytest
import torch
import torchvision

from hem.detectors.backbones import BackboneSpec, build_body
from hem.detectors.weights import fetch, find_prefix, load_detector, load_matching, save_detector
from hem.errors import HemError


def test_three_kinds_of_checkpoint(tiny, family, tmp_path):
    source = tiny(family)
    torch.save(source.net.state_dict(), tmp_path / "plain.pth")
    state = {f"detector.net.{name}": value for name, value in source.net.state_dict().items()}
    teacher = {f"teacher.net.{name}": torch.zeros_like(v) for name, v in source.net.state_dict().items()}
    lightning = {"state_dict": teacher | state, "epoch": 3, "hem_detector": source.describe()}
    torch.save(lightning, tmp_path / "lightning.ckpt")
    save_detector(tmp_path / "hem.pt", source)
    for name in ("plain.pth", "lightning.ckpt", "hem.pt"):
        fresh = tiny(family, seed=4)
        assert fresh.digest() != source.digest()
        fresh.load_weights(tmp_path / name)
        assert fresh.digest() == source.digest()
    for name in ("lightning.ckpt", "hem.pt"):
        rebuilt = load_detector(tmp_path / name)
        assert type(rebuilt) is type(source) and rebuilt.class_names == source.class_names
        assert rebuilt.digest() == source.digest()
    emptied = load_detector(tmp_path / "lightning.ckpt", prefix="teacher.net.")
    assert all(float(p.detach().abs().max()) == 0 for p in emptied.parameters())


def test_other_classes_are_named(tiny, family, tmp_path):
    source = tiny(family, class_names=("face",))
    torch.save(source.net.state_dict(), tmp_path / "plain.pth")
    save_detector(tmp_path / "hem.pt", source)
    with pytest.raises(HemError, match=r"other classes.*disc, square.*replace_head=true"):
        tiny(family).load_weights(tmp_path / "plain.pth")
    with pytest.raises(HemError, match=r"classes \['face'\].*\['disc', 'square'\].*replace_head=true"):
        tiny(family).load_weights(tmp_path / "hem.pt")
    fresh = tiny(family, seed=4)
    fresh.load_weights(tmp_path / "plain.pth", replace_head=True)
    name = next(iter(source.net.state_dict()))  # a layer of the backbone in every family
    torch.testing.assert_close(fresh.net.state_dict()[name], source.net.state_dict()[name])


def test_same_number_of_other_classes_is_noticed(tiny, tmp_path):
    save_detector(tmp_path / "hem.pt", tiny("retinanet", class_names=("cat", "dog")))
    with pytest.raises(HemError, match="cat"):
        tiny("retinanet").load_weights(tmp_path / "hem.pt")


def test_other_architecture_is_named(tiny, tmp_path):
    torch.save(tiny("retinanet").net.state_dict(), tmp_path / "retinanet.pth")
    with pytest.raises(HemError, match=r"another architecture"):
        tiny("fcos").load_weights(tmp_path / "retinanet.pth")
    with pytest.raises(HemError, match=r"other shape.*there.*here"):
        tiny("retinanet", fpn_channels=32).load_weights(tmp_path / "retinanet.pth")


def test_files_that_cannot_be_read(tiny, tmp_path):
    detector = tiny("retinanet")
    with pytest.raises(HemError, match="is not there"):
        detector.load_weights(tmp_path / "none.pth")
    (tmp_path / "bad.pth").write_bytes(b"nothing of the kind")
    with pytest.raises(HemError, match=r"bad\.pth"):
        detector.load_weights(tmp_path / "bad.pth")
    torch.save({"state_dict": {"a": 1}}, tmp_path / "empty.pth")
    with pytest.raises(HemError, match="holds no tensors"):
        detector.load_weights(tmp_path / "empty.pth")

    class Code:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "executed"),))

    with (tmp_path / "code.pth").open("wb") as stream:
        pickle.dump({"x": Code()}, stream)
    with pytest.raises(HemError, match=r"code\.pth"):
        detector.load_weights(tmp_path / "code.pth")
    assert not (tmp_path / "executed").exists()
    torch.save(detector.net.state_dict(), tmp_path / "plain.pth")
    with pytest.raises(HemError, match="does not say which detector"):
        load_detector(tmp_path / "plain.pth")


def test_prefix():
    own = ["a.weight", "b.c.bias"]
    assert find_prefix(own, own) == ""
    assert find_prefix(own, ["net.a.weight", "net.b.c.bias", "other"]) == "net."
    both = [p + n for p in ("teacher.net.", "detector.net.") for n in own]
    assert find_prefix(own, both) == "detector.net."
    assert find_prefix(own, ["x"]) == ""


def test_foreign_backbone(tmp_path):
    net = torchvision.models.shufflenet_v2_x0_5(weights=None)
    foreign = {f"model.backbone.{n}": v for n, v in net.state_dict().items() if not n.startswith("fc")}
    foreign["model.head.weight"] = torch.zeros(3)
    torch.save({"state_dict": foreign}, tmp_path / "foreign.ckpt")
    spec = BackboneSpec(
        "shufflenet_v2_x0_5",
        weights=str(tmp_path / "foreign.ckpt"),
        weights_prefix="model.backbone.",
        activation="leaky_relu_0.1",
        strides=(8, 16),
    )
    body, widths = build_body(spec)
    assert widths == [48, 96]
    torch.testing.assert_close(body.state_dict()["conv1.0.weight"], net.state_dict()["conv1.0.weight"])
    kinds = {type(m) for m in body.modules()}
    assert torch.nn.LeakyReLU in kinds and torch.nn.ReLU not in kinds
    assert {m.negative_slope for m in body.modules() if isinstance(m, torch.nn.LeakyReLU)} == {0.1}
    fresh = torchvision.models.shufflenet_v2_x0_5(weights=None)
    total = len(fresh.state_dict())
    assert load_matching(fresh, tmp_path / "foreign.ckpt") == (total - 2, 2, 0)
    other = torchvision.models.resnet18(weights=None)
    with pytest.raises(HemError, match=r"fits only 0 of the backbone's"):
        load_matching(other, tmp_path / "foreign.ckpt")


def test_half_is_enough(tmp_path):
    net = torch.nn.Sequential(*(torch.nn.Linear(1, 1, bias=False) for _ in range(4)))
    torch.save({"0.weight": torch.ones(1, 1), "1.weight": torch.ones(1, 1)}, tmp_path / "half.pth")
    assert load_matching(net, tmp_path / "half.pth") == (2, 2, 0)
    torch.save({"0.weight": torch.ones(1, 1)}, tmp_path / "less.pth")
    with pytest.raises(HemError, match="fits only 1"):
        load_matching(net, tmp_path / "less.pth")


def test_no_network_says_what_to_do():
    def unreachable():
        raise OSError("Name or service not known")

    with pytest.raises(HemError, match=r"not known\).*detector\.weights=/path/to/file\.pth"):
        fetch("COCO_V1 of x", "detector.weights", unreachable)


def test_unknown_weight_name(tiny):
    with pytest.raises(HemError, match=r"nothing is published under 'COCO_V1'"):
        tiny("retinanet", weights="COCO_V1")
