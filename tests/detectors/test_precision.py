"""Under autocast the network is rounded, boxes are not: anchors, matches and targets stay as in float32."""

import pytest
import torch

from hem.structures import Target

# Offsets beyond 256 pixels, where bfloat16 knows even numbers only.
BOXES = [[301.0, 203.0, 337.0, 251.0], [13.0, 259.5, 77.0, 331.0]]
DENSE = ("retinanet", "fcos", "ssd")


def pictures() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, 255, (3, 384, 384), dtype=torch.uint8, generator=generator)] * 2


def targets(partial: bool) -> list[Target]:
    ignore = torch.tensor([[0.0, 0.0, 40.0, 40.0]]) if partial else torch.zeros((0, 4))
    return [Target(torch.tensor(BOXES), torch.tensor([1, 2]), ignore_xyxy=ignore)] * 2


def taught(detector, partial: bool, half: bool, monkeypatch) -> dict[str, list[torch.Tensor]]:
    """Losses of one pass, with the anchors and matches that a dense head was taught."""
    seen: dict[str, list[torch.Tensor]] = {}
    where = detector.net if hasattr(detector.net, "neg_to_pos_ratio") else detector.net.head
    plain = where.compute_loss

    def record(labels, outputs, anchors, matched):
        seen["anchors"], seen["matched"] = list(anchors), list(matched)
        return plain(labels, outputs, anchors, matched)

    monkeypatch.setattr(where, "compute_loss", record)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        losses = detector(pictures(), targets(partial))
    assert all(bool(torch.isfinite(value)) for value in losses.values())
    monkeypatch.undo()
    return seen


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("family", DENSE)
def test_dense_heads_match_the_same_anchors(tiny, family, partial, monkeypatch):
    size = {"size": 384} if family == "ssd" else {"min_size": 384, "max_size": 384}
    half = taught(tiny(family, **size), partial, True, monkeypatch)
    full = taught(tiny(family, **size), partial, False, monkeypatch)
    for one, same in zip(half["anchors"], full["anchors"], strict=True):
        assert one.dtype == torch.float32 and torch.equal(one, same)
    for one, same in zip(half["matched"], full["matched"], strict=True):
        assert torch.equal(one, same) and bool((one >= 0).any())


@pytest.mark.parametrize("partial", [False, True])
def test_two_stages_encode_in_single_precision(tiny, partial, monkeypatch):
    """Both stages: what is asked of each sample is exact for its box, and the box itself is not rounded."""
    detector = tiny("faster_rcnn", min_size=384, max_size=384)
    asked = []
    for part in (detector.net.rpn, detector.net.roi_heads):
        plain = part.box_coder.encode

        def record(wanted, boxes, plain=plain):
            answer = plain(wanted, boxes)
            asked.append((torch.cat(list(wanted)), torch.cat(list(boxes)), torch.cat(list(answer))))
            return answer

        monkeypatch.setattr(part.box_coder, "encode", record)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = detector(pictures(), targets(partial))
    assert all(bool(torch.isfinite(value)) for value in losses.values())
    assert len(asked) == 2
    weights = {0: (1.0, 1.0), 1: (10.0, 5.0)}
    for stage, (wanted, boxes, answer) in enumerate(asked):
        assert wanted.dtype == boxes.dtype == answer.dtype == torch.float32
        size, goal = boxes[:, 2:] - boxes[:, :2], wanted[:, 2:] - wanted[:, :2]
        shift = (wanted[:, :2] + goal / 2 - boxes[:, :2] - size / 2).double() / size.double()
        centre, scale = weights[stage]
        expected = torch.cat([centre * shift, scale * (goal.double() / size.double()).log()], 1)
        torch.testing.assert_close(answer.double(), expected, rtol=1e-4, atol=1e-4)
    _, proposals, _ = asked[1]
    assert not torch.equal(proposals, proposals.bfloat16().float()), (
        "proposals of the first stage are rounded"
    )
    truth = torch.tensor(BOXES)
    inside = (proposals[:, None] == truth[None]).all(-1).any(0)
    assert bool(inside.all()), "the true boxes are among the samples as they are"


@pytest.mark.parametrize("family", ["faster_rcnn", *DENSE])
def test_detection_under_autocast_decodes_in_single_precision(tiny, family):
    detector = tiny(family)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = detector.detect(torch.full((2, 3, 96, 96), 130, dtype=torch.uint8), 0.0)[0]
    inner = found.boxes_xyxy[(found.boxes_xyxy > 0).all(1) & (found.boxes_xyxy < 96).all(1)]
    assert len(inner) and not torch.equal(inner, inner.float().bfloat16().double())
