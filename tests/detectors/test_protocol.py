"""detect, digest, checks of the protocol."""

import pytest
import torch

from hem.errors import HemError
from hem.structures import Target


def awake(detector):
    """Statistics from one training pass, so that eval mode gives boxes that differ between images."""
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 255, (3, 96, 96), dtype=torch.uint8, generator=generator) for _ in range(4)]
    with torch.no_grad():
        for _ in range(20):
            detector(images, [Target()] * 4)
    return detector


def test_detections_do_not_depend_on_the_batch(tiny, family):
    """One, two or five at a time, alone or beside other sizes: the same to float tolerance."""
    detector = awake(tiny(family))
    generator = torch.Generator().manual_seed(5)
    frames = torch.randint(0, 255, (5, 3, 96, 80), dtype=torch.uint8, generator=generator)
    other = torch.randint(0, 255, (3, 70, 96), dtype=torch.uint8, generator=generator)
    alone = [detector.detect(frame[None], 0.0)[0] for frame in frames]
    together = detector.detect(frames, 0.0)
    mixed = detector.detect([frames[0], other, *frames[1:]], 0.0)
    del mixed[1]
    assert sum(len(one) for one in alone) > 0
    for way in (together, mixed):
        for one, same in zip(alone, way, strict=True):
            assert len(one) == len(same)
            torch.testing.assert_close(same.scores, one.scores, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(same.boxes_xyxy, one.boxes_xyxy, rtol=1e-4, atol=1e-2)


def test_a_lone_frame_has_a_copy_beside_it_and_a_lone_still_has_none(tiny, monkeypatch):
    """One image rounds otherwise than two or more: the last frame must not depend on the batch size."""
    detector = tiny("fcos").eval()
    asked = []
    plain = detector.predict
    monkeypatch.setattr(detector, "predict", lambda images: asked.append(len(images)) or plain(images))
    frame = torch.full((1, 3, 96, 96), 130, dtype=torch.uint8)
    assert len(detector.detect(frame, 0.0)) == 1
    assert len(detector.detect(frame.expand(3, -1, -1, -1), 0.0)) == 3
    assert len(detector.detect([frame[0]], 0.0)) == 1
    assert asked == [2, 3, 1]


def test_detect_restores_modes_and_keeps_to_the_image(tiny, family):
    detector = awake(tiny(family))
    asleep = next(m for m in detector.modules() if isinstance(m, torch.nn.BatchNorm2d))
    asleep.eval()
    found = detector.detect(torch.zeros(1, 3, 50, 120, dtype=torch.uint8), 0.0)[0]
    assert detector.training and not asleep.training
    assert found.boxes_xyxy.dtype == torch.float64 and found.boxes_xyxy.requires_grad is False
    assert float(found.boxes_xyxy.min()) >= 0
    assert float(found.boxes_xyxy[:, 2].max()) <= 120 and float(found.boxes_xyxy[:, 3].max()) <= 50
    assert bool((found.scores.diff() <= 0).all())
    assert int(found.labels.min()) >= 1 and int(found.labels.max()) <= 2
    assert detector.detect([], 0.5) == []


def test_floor_is_inclusive(tiny, family):
    detector = awake(tiny(family))
    frame = torch.full((1, 3, 96, 96), 130, dtype=torch.uint8)
    every = detector.detect(frame, 0.0)[0]
    floor = float(every.scores[len(every) // 2])
    kept = detector.detect(frame, floor)[0]
    assert len(kept) > 0 and float(kept.scores.min()) == floor
    with pytest.raises(HemError, match="floor_score"):
        detector.detect(frame, 1.5)


def test_a_limit_lets_more_through_and_changes_none_of_the_others(tiny, family):
    few, many = (awake(tiny(family, max_detections=3, nms_iou=1.0)) for _ in range(2))
    frame = torch.full((1, 3, 96, 96), 130, dtype=torch.uint8)
    best = few.detect(frame, 0.0)[0]
    many.set_limit(30)
    more = many.detect(frame, 0.0)[0]
    assert len(best) == 3 and 6 < len(more) <= 30
    assert torch.equal(more.scores[:3], best.scores) and many.digest() == few.digest()
    few.set_limit(2)
    assert len(few.detect(frame, 0.0)[0]) == 2


def test_refusals_name_the_thing(tiny, images, labelled):
    detector = tiny("retinanet")
    with pytest.raises(HemError, match=r"street/7\.png: label 3.*2 classes \(disc, square\)"):
        box = torch.tensor([[1.0, 1.0, 9.0, 9.0]])
        detector(images[:1], [Target(box, torch.tensor([3]), name="street/7.png")])
    with pytest.raises(HemError, match="2 images came with 1 targets"):
        detector(images, labelled[:1])
    with pytest.raises(HemError, match="uint8"):
        detector.detect([torch.zeros(3, 8, 8)])
    with pytest.raises(RuntimeError, match="train mode"):
        detector.eval()(images, labelled)
    with pytest.raises(HemError, match="ignore_ioa"):
        tiny("retinanet", ignore_ioa=0.0)
    with pytest.raises(HemError, match="negative_repeats"):
        tiny("faster_rcnn", negative_repeats=0)
    with pytest.raises(HemError, match="SSD's loss"):
        from hem.detectors.ssd import SSDLite

        SSDLite(class_names=["a"], ohem=False)


def test_digest_is_of_weights_and_settings(tiny, family):
    first = tiny(family)
    assert first.digest() == tiny(family).digest() and len(first.digest()) == 64
    assert first.digest() != tiny(family, seed=1).digest()
    assert first.digest() != tiny(family, max_detections=7).digest()
    assert first.digest() == tiny(family, replace_head=True).digest()
    with torch.no_grad():
        next(first.parameters()).view(-1)[0] += 1e-3
    assert first.digest() != tiny(family).digest()


def test_freeze_schedules_find_a_backbone_in_every_family(tiny, family):
    """What trainer.freeze_backbone_steps and optim.backbone_lr_scale act on is there, and is not all."""
    inside = [".backbone." in f".{name}." for name, _ in tiny(family).named_parameters()]
    assert any(inside) and not all(inside)
