"""RT-DETR: what it shares with the other families is in test_properties.py."""

import sys
from dataclasses import replace

import pytest
import torch

from hem.detectors.contract import complete
from hem.detectors.rtdetr import RTDETR
from hem.errors import HemError
from hem.structures import Target

transformers = pytest.importorskip("transformers", reason="needs the extra detr (transformers)")
from hem.detectors import set_prediction as sp  # noqa: E402

BOX = torch.tensor([[8.0, 8.0, 44.0, 40.0]])


def losses_of(detector, images, targets):
    torch.manual_seed(1)
    return detector.train()(images, targets)


@pytest.mark.parametrize("version", [1, 2])
def test_fully_labelled_is_upstream(tiny, images, labelled, version, monkeypatch):
    """Property 1: transformers' own loss, same weights and seed; and hem's general path on plain targets."""
    detector = tiny("detr", version=version)
    ours = losses_of(detector, images, labelled)
    kind = type(detector.net).__mro__[2]
    assert kind.__module__.startswith("transformers.")
    upstream = kind(detector.net.config).train()
    upstream.load_state_dict(detector.net.state_dict())
    share = torch.tensor([96.0, 96.0, 96.0, 96.0])
    targets = []
    for target in labelled:
        left, top, right, bottom = (target.boxes_xyxy / share).unbind(1)
        boxes = torch.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], 1)
        targets.append({"class_labels": target.labels - 1, "boxes": boxes})
    torch.manual_seed(1)
    theirs = upstream(torch.stack([image.float() / 255 for image in images]), labels=targets).loss_dict
    assert {"loss_vfl", "loss_bbox", "loss_giou", "loss_vfl_aux", "loss_giou_dn"} <= set(ours)
    for name, loss in ours.items():
        parts = [value for key, value in theirs.items() if key.rstrip("0123456789").rstrip("_") == name]
        torch.testing.assert_close(loss, torch.stack(parts).sum())
    monkeypatch.setattr(sp, "is_plain", lambda targets: False)
    general = losses_of(detector, images, labelled)
    for name, loss in ours.items():
        torch.testing.assert_close(general[name], loss, rtol=1e-4, atol=1e-5)


def lesson(target, matched, predicted, nearest=True):
    labels = complete({"boxes": target.boxes_xyxy, "labels": target.labels} | target_parts(target))
    return sp.hard_queries(predicted, labels, torch.tensor(matched), nearest).tolist()


def target_parts(target):
    boxes, labels, weights = target.hard_negatives
    return {
        "weights": target.box_weights,
        "negatives": boxes,
        "negative_labels": labels,
        "negative_weights": weights,
        "ignore": target.ignore_xyxy,
    }


def test_which_queries_stand_for_a_hard_negative():
    negative = Target(BOX, [1], negatives_xyxy=[[50, 50, 90, 90]], negative_labels=torch.tensor([1]))
    half = [50.0, 50.0, 90.0, 70.0]  # IoU exactly 0.5
    less = [50.0, 50.0, 90.0, 69.0]
    far = [0.0, 0.0, 4.0, 4.0]
    predicted = torch.tensor([half, less, far])
    assert lesson(negative, [-1, -1, -1], predicted) == [[True, False, False]]
    assert lesson(negative, [-1, -1], predicted[1:]) == [[True, False]]  # none reaches 0.5: the nearest
    assert lesson(negative, [-1], predicted[2:]) == [[True]]  # even where nothing overlaps
    assert lesson(negative, [-1], predicted[2:], nearest=False) == [[False]]
    assert lesson(negative, [0, -1, -1], predicted) == [
        [False, True, False]
    ]  # matched to its class: not free
    other = replace(negative, negative_labels=torch.tensor([2]))
    assert lesson(other, [0, -1, -1], predicted) == [[True, False, False]]


def test_a_negative_touches_its_own_output_alone(tiny, images):
    detector = tiny("detr")
    everywhere = torch.tensor([[-100.0, -100.0, 300.0, 300.0]])
    target = Target(negatives_xyxy=BOX, negative_labels=torch.tensor([1]), ignore_xyxy=everywhere)
    sum(losses_of(detector, images[:1], [target]).values()).backward()
    heads = [*detector.net.model.decoder.class_embed, detector.net.model.enc_score_head]
    for head in heads:  # every decoder layer and the encoder's own proposals learn it
        assert head.bias.grad[0] > 0 and head.bias.grad[1] == 0


def test_denoising_copies_keep_to_the_contract(tiny, images):
    """A denoising group teaches with its positive's weight, and nothing inside an ignore region."""
    detector = tiny("detr")
    everywhere = torch.tensor([[-100.0, -100.0, 300.0, 300.0]])

    def dn(weight):
        target = Target(BOX, [1], weights=torch.tensor([weight]), ignore_xyxy=everywhere)
        found = losses_of(detector, images[:1], [target])
        return torch.stack([found[f"loss_{name}_dn"] for name in ("vfl", "bbox", "giou")])

    assert bool((dn(1.0) > 0).all())
    torch.testing.assert_close(dn(0.25), dn(1.0) * 0.25)
    assert "loss_vfl_dn" not in losses_of(tiny("detr", denoising=0), images[:1], [Target(BOX, [1])])


def test_soft_scores_scale_what_a_query_aims_at():
    """Where box and truth agree: score 1 is upstream's lesson, 0.25 aims at 0.25, 0 turns it round."""
    from transformers import RTDetrConfig

    from hem.detectors.contract import Contract

    criterion = sp.PartialSetLoss(RTDetrConfig(num_labels=2), Contract())
    box = torch.tensor([[0.5, 0.5, 0.4, 0.2]])

    def slope(score, at=0.25):
        logits = torch.logit(torch.full((1, 1, 2), at)).requires_grad_()
        labels = {"boxes": box, "class_labels": torch.tensor([1]), "labels": torch.tensor([2])}
        if score is not None:
            labels |= complete(labels) | {"soft_scores": torch.tensor([score])}
        index = torch.tensor([0])
        outputs = {"logits": logits, "pred_boxes": box[None]}
        criterion.loss_labels_vfl(outputs, [labels], [(index, index)], 1.0)["loss_vfl"].backward()
        return logits.grad[0, 0]

    torch.testing.assert_close(slope(1.0), slope(None))
    assert abs(float(slope(0.25)[1])) < 1e-6
    assert slope(1.0)[1] < 0 < slope(0.0)[1]
    assert slope(0.0)[0] > 0, "the other class stays background"


def test_a_network_that_broke_gives_a_loss_that_names_itself(tiny, images, labelled):
    detector = tiny("detr")
    with torch.no_grad():
        detector.net.model.enc_score_head.weight.fill_(float("nan"))
    assert not bool(torch.isfinite(losses_of(detector, images, labelled)["loss_vfl"]))


def test_without_transformers_the_error_says_how(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(HemError, match=r"transformers.*uv sync --extra detr"):
        RTDETR(class_names=["a"])


def test_saved_and_published_weights(tiny, tmp_path, monkeypatch):
    """A folder written by transformers loads, frozen as published; without a network a hub name says so."""
    source = tiny("detr", seed=3)
    kind = type(source.net).__mro__[2]
    plain = kind(source.net.config)
    plain.load_state_dict(source.net.state_dict())
    plain.save_pretrained(tmp_path / "folder")
    torch.save(plain.state_dict(), tmp_path / "plain.pth")
    for weights in ("folder", "plain.pth"):
        again = tiny("detr", weights=str(tmp_path / weights))
        assert again.settings["backbone_norm"] == "frozen"
        body = again.net.model.backbone
        assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in body.modules())
        mine, theirs = again.net.state_dict(), source.net.state_dict()
        assert all(torch.equal(value, theirs[name]) for name, value in mine.items())
    with pytest.raises(HemError, match=r"other classes.*replace_head=true"):
        tiny("detr", class_names=("cat",), weights=str(tmp_path / "folder"))
    other = tiny("detr", class_names=("cat",), weights=str(tmp_path / "folder"), replace_head=True)
    assert other.net.model.enc_score_head.weight.shape[0] == 1

    def unreachable(*arguments, **keywords):
        raise OSError("we cannot connect to the hub")

    monkeypatch.setattr(kind, "from_pretrained", unreachable)
    with pytest.raises(
        HemError, match=r"hub model 'PekingU/rtdetr_r50vd'.*cannot connect.*detector\.weights="
    ):
        tiny("detr", weights="PekingU/rtdetr_r50vd")
    with pytest.raises(HemError, match=r"not\.pth is not there"):
        tiny("detr", weights="not.pth")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"backbone": "r19vd"}, "r18vd"),
        ({"network": {"d_modell": 3}}, r"detector\.network\.d_modell.*did you mean 'd_model'"),
        ({"backbone_network": {"depth": [1]}}, r"did you mean 'depths'"),
        ({"version": 3}, "version must be 1 or 2"),
        ({"size": 100}, "multiple of 32"),
        ({"queries": 0}, "queries"),
        ({"prior": 1.0}, "prior"),
        ({"backbone_norm": "group"}, "frozen, batch or null"),
    ],
)
def test_refusals(wrong, said):
    with pytest.raises(HemError, match=said):
        RTDETR(class_names=["a"], **wrong)


def test_boxes_come_back_in_pixels_of_the_image(tiny):
    """A wide image is squeezed to the square the network sees; its boxes are stretched back."""
    detector = tiny("detr")
    wide = detector.detect([torch.zeros(3, 60, 180, dtype=torch.uint8)], 0.0)[0]
    square = detector.detect([torch.zeros(3, 96, 96, dtype=torch.uint8)], 0.0)[0]
    torch.testing.assert_close(wide.scores, square.scores, rtol=1e-4, atol=1e-5)
    scale = torch.tensor([180 / 96, 60 / 96] * 2, dtype=torch.float64)
    torch.testing.assert_close(wide.boxes_xyxy, square.boxes_xyxy * scale, rtol=1e-3, atol=1e-2)
