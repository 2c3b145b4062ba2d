"""The six properties of the Target contract, on every family."""

from dataclasses import replace

import pytest
import torch

from hem.detectors import contract
from hem.structures import Target

POSITIVE = torch.tensor([[8.0, 8.0, 44.0, 40.0]])
ELSEWHERE = torch.tensor([[50.0, 50.0, 86.0, 86.0]])
EVERYWHERE = torch.tensor([[-100.0, -100.0, 300.0, 300.0]])


def still(detector):
    """Batch norm that only looks, so that two passes over one batch are comparable."""
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    return detector


def losses_of(detector, images, targets, seed=1):
    torch.manual_seed(seed)
    return detector(images, targets)


def gradients_of(detector, images, targets, seed=1, names=None):
    detector.zero_grad(set_to_none=True)
    losses = losses_of(detector, images, targets, seed)
    sum(loss for name, loss in losses.items() if names is None or name in names).backward()
    return torch.cat(
        [
            torch.zeros(p.numel()) if p.grad is None else p.grad.flatten().clone()
            for p in detector.parameters()
            if p.requires_grad
        ]
    )


CLASSIFIERS = ("loss_classifier", "loss_objectness", "classification")
CLASSIFIERS += ("loss_vfl", "loss_vfl_aux", "loss_vfl_dn")
TORCHVISION = ("faster_rcnn", "retinanet", "fcos", "ssd", "ssd300")


@pytest.mark.parametrize("family", TORCHVISION)
def test_fully_labelled_is_upstream(tiny, family, images, labelled):
    """1: plain targets, and the contract's own path on plain targets, give upstream's loss."""
    detector = still(tiny(family, prior=0.3) if family in ("faster_rcnn", "ssd") else tiny(family))
    ours = losses_of(detector, images, labelled)
    plain = [{"boxes": t.boxes_xyxy, "labels": t.labels} for t in labelled]
    torch.manual_seed(1)
    bases = {type(m).__mro__[1]: m for m in detector.net.modules() if type(m).__module__.startswith("hem.")}
    kept = [(module, type(module)) for module in bases.values()]
    for base, module in bases.items():
        if base.__module__.startswith("torchvision"):
            module.__class__ = base
    upstream = detector.net([image.float() / 255 for image in images], plain)
    for module, kind in kept:
        module.__class__ = kind
    assert ours.keys() == upstream.keys()
    for name, loss in upstream.items():
        assert ours[name].item() == loss.item()

    original = contract.is_plain
    modules = ["hem.detectors.two_stage", "hem.detectors.one_stage"]
    import sys

    try:
        for module in modules:
            sys.modules[module].is_plain = lambda targets: targets is None
        general = losses_of(detector, images, labelled)
    finally:
        for module in modules:
            sys.modules[module].is_plain = original
    for name, loss in upstream.items():
        torch.testing.assert_close(general[name], loss, rtol=1e-4, atol=1e-5)


def test_weight_zero_is_an_ignore_region(tiny, family, images):
    """2: a box of weight 0 and that box as an ignore region teach the same."""
    detector = still(tiny(family))
    both = torch.cat([POSITIVE, ELSEWHERE])
    weightless = Target(both, torch.tensor([1, 2]), weights=torch.tensor([1.0, 0.0]))
    ignored = Target(POSITIVE, torch.tensor([1]), ignore_xyxy=ELSEWHERE)
    full = Target(both, torch.tensor([1, 2]))
    first = gradients_of(detector, images[:1], [weightless])
    torch.testing.assert_close(first, gradients_of(detector, images[:1], [ignored]))
    assert not torch.allclose(first, gradients_of(detector, images[:1], [full]))


def test_weights_scale_positive_gradients(tiny, family, images):
    """Weights scale what a positive teaches, and normalisers do not see them."""
    detector = still(tiny(family))

    def one(weight):
        target = Target(POSITIVE, torch.tensor([1]), weights=torch.tensor([weight]), ignore_xyxy=EVERYWHERE)
        return gradients_of(detector, images[:1], [target])

    single = one(1.0)
    assert single.abs().sum() > 0
    torch.testing.assert_close(one(0.25), single * 0.25, rtol=1e-3, atol=1e-6)


def test_ignore_regions_are_silent(tiny, family, images):
    """3: nothing inside an ignore region gives a classification gradient."""
    detector = still(tiny(family))
    silent = gradients_of(detector, images[:1], [Target(ignore_xyxy=EVERYWHERE)])
    assert silent.abs().max() == 0
    partly = Target(POSITIVE, torch.tensor([1]), ignore_xyxy=EVERYWHERE)
    assert gradients_of(detector, images[:1], [partly]).abs().sum() > 0


def hard(weight=1.0, label=0, boxes=ELSEWHERE, ignore=EVERYWHERE):
    return Target(
        negatives_xyxy=boxes,
        negative_labels=torch.full((len(boxes),), label),
        negative_weights=torch.full((len(boxes),), weight),
        ignore_xyxy=ignore,
    )


@pytest.mark.parametrize("label", [0, 1])
def test_hard_negative_always_teaches(tiny, family, label, images):
    """4: a hard negative is always sampled (even under an ignore region); weight scales its gradient."""
    detector = still(tiny(family))
    single = gradients_of(detector, images[:1], [hard(1.0, label)])
    assert single.abs().sum() > 0
    tripled = gradients_of(detector, images[:1], [hard(3.0, label)])
    noise = 1e-6 * max(1.0, float(tripled.abs().max()))  # float32 sums of gradients of this size
    torch.testing.assert_close(tripled, single * 3, rtol=1e-3, atol=noise)
    for seed in range(3):
        again = gradients_of(detector, images[:1], [hard(1.0, label)], seed=seed)
        torch.testing.assert_close(again, single)


def score_at(detector, image, box, label):
    """Highest score of a class near a box, all the way down to 0."""
    from torchvision.ops import box_iou

    found = detector.detect([image], 0.0)[0].of_class(label)
    near = box_iou(found.boxes_xyxy.float(), box)[:, 0] >= 0.3
    return float(found.scores[near].max()) if bool(near.any()) else 0.0


def test_one_step_lowers_the_score(tiny, family, images):
    """4: a step on a hard negative lowers its class' score there."""
    detector = still(tiny(family, nms_iou=0.9, max_detections=2000))
    place = ELSEWHERE if family != "detr" else detector.detect(images[:1], 0.0)[0].boxes_xyxy[:1].float()
    # First taught to see an object there, so that there is a score to lower (a query already does).
    teach = torch.optim.SGD(detector.parameters(), lr=0.05, momentum=0.9)
    for _ in range({"detr": 0, "ssd300": 8}.get(family, 25)):
        teach.zero_grad()
        sum(losses_of(detector, images[:1], [Target(place, torch.tensor([1]))]).values()).backward()
        torch.nn.utils.clip_grad_norm_(detector.parameters(), 5.0)
        teach.step()
    before = score_at(detector, images[0], place, 1)
    step = torch.optim.SGD(detector.parameters(), lr=0.01)
    step.zero_grad()
    target = hard(1.0, 1, boxes=place, ignore=torch.zeros(0, 4))
    sum(losses_of(detector, images[:1], [target]).values()).backward()
    step.step()
    assert before > 0.02
    assert score_at(detector, images[0], place, 1) < before


def test_negative_of_one_class_touches_it_alone(tiny, family, images):
    """A negative of class 1 gives no gradient to class 2's sigmoid output; softmax heads use p_1 alone."""
    if family in ("retinanet", "fcos"):
        detector = still(tiny(family))
        gradients_of(detector, images[:1], [hard(1.0, 1)])
        outputs = detector.net.head.classification_head.cls_logits.bias.grad.view(-1, 3)
        assert outputs[:, 1].abs().sum() > 0
        assert outputs[:, [0, 2]].abs().max() == 0
        return
    from hem.detectors.losses import not_these_classes

    logits = torch.tensor([[0.3, 1.2, -0.7]], requires_grad=True)
    loss = not_these_classes(logits, torch.tensor([[False, True, False]]))
    torch.testing.assert_close(loss, -torch.log(1 - logits.softmax(1)[:, 1]))
    everything = not_these_classes(logits, torch.tensor([[False, True, True]]))
    torch.testing.assert_close(everything, -logits.log_softmax(1)[:, 0])


def test_no_boxes(tiny, family, images):
    """5: no boxes at all: finite losses, no box loss."""
    detector = still(tiny(family))
    for targets in ([Target(), Target()], [Target(ignore_xyxy=ELSEWHERE), Target()], [hard(), Target()]):
        losses = losses_of(detector, images, targets)
        assert all(bool(torch.isfinite(loss)) for loss in losses.values())
        for name, loss in losses.items():
            if name not in CLASSIFIERS:
                assert loss.item() == 0
    sum(losses.values()).backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in detector.parameters() if p.grad is not None)


def test_inputs_stay(tiny, family, images, labelled):
    """6: images and targets are never changed, and no gradient reaches them."""
    detector = tiny(family)
    full = replace(
        labelled[0],
        ignore_xyxy=torch.tensor([[1.0, 60.0, 30.0, 90.0]]),
        negatives_xyxy=torch.tensor([[60.0, 4.0, 92.0, 40.0]]),
        negative_labels=torch.tensor([1]),
        negative_weights=torch.tensor([0.5]),
        soft_scores=torch.tensor([0.6, 0.9]),
    )
    names = ("boxes_xyxy", "labels", "weights", "negatives_xyxy", "negative_labels", "negative_weights")
    names += ("ignore_xyxy", "soft_scores")
    before = [getattr(full, name).clone() for name in names], [image.clone() for image in images]
    sum(detector(images, [full, labelled[1]]).values()).backward()
    detector.detect(images)
    assert all(torch.equal(getattr(full, n), b) for n, b in zip(names, before[0], strict=True))
    assert all(torch.equal(image, b) for image, b in zip(images, before[1], strict=True))


@pytest.mark.parametrize("family", TORCHVISION)  # detr: its own test, where boxes fit
def test_soft_scores_move_the_optimum(tiny, family, images):
    """Soft score 1 is the hard label; 0 turns the positive's classification round."""
    # Without weights SSD300 is so sure of some class that, with two, both lessons push the other one down.
    detector = still(tiny(family, class_names=("disc",)) if family == "ssd300" else tiny(family))

    def one(score):
        soft = None if score is None else torch.tensor([score])
        return Target(POSITIVE, torch.tensor([1]), soft_scores=soft, ignore_xyxy=EVERYWHERE)

    certain = gradients_of(detector, images[:1], [one(1.0)])
    torch.testing.assert_close(certain, gradients_of(detector, images[:1], [one(None)]))
    up = gradients_of(detector, images[:1], [one(1.0)], names=CLASSIFIERS)
    down = gradients_of(detector, images[:1], [one(0.0)], names=CLASSIFIERS)
    assert torch.dot(up, down) < 0


@pytest.mark.parametrize(
    "family", ("faster_rcnn", "retinanet", "fcos", pytest.param("detr", marks=pytest.mark.detr))
)
def test_ohem_keeps_the_hardest(tiny, family, images, labelled):
    keep = {"ohem_minimum": 4} if family == "detr" else {}
    detector = still(tiny(family, ohem=True, **keep))
    usual = losses_of(still(tiny(family)), images, labelled)
    mined = losses_of(detector, images, labelled)
    name = {"faster_rcnn": "loss_classifier", "detr": "loss_vfl"}.get(family, "classification")
    if family == "faster_rcnn":
        assert mined[name].item() != usual[name].item()
    else:
        assert 0 < mined[name].item() < usual[name].item()
    assert gradients_of(detector, images[:1], [Target(ignore_xyxy=EVERYWHERE)]).abs().max() == 0
    assert gradients_of(detector, images[:1], [hard()]).abs().sum() > 0


@pytest.mark.parametrize("family", ("ssd", "ssd300"))
def test_ssd_mines_online_by_construction(tiny, family, images, labelled):
    """SSD's own quota: fewer background boxes for each positive, less loss; ignored ones never enter."""
    for targets in (
        labelled,
        [replace(labelled[0], ignore_xyxy=torch.tensor([[0.0, 0, 3, 3]])), labelled[1]],
    ):
        few, many = (
            losses_of(still(tiny(family, negative_ratio=ratio)), images, targets)["classification"].item()
            for ratio in (0.5, 3.0)
        )
        assert 0 < few < many


def test_hard_negatives_are_drawn_from_a_crowd(tiny, images):
    """4, two-stage: among many background samples and few places both stages still take them all."""
    detector = still(tiny("faster_rcnn", roi_batch=4, rpn_batch=4, class_names=("disc",)))
    seen = []
    pool = detector.net.roi_heads.box_roi_pool
    pool.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1][0]))
    heavy = hard(1e5, 1, ignore=torch.zeros(0, 4))
    for seed in range(4):
        losses = losses_of(detector, images[:1], [heavy], seed=seed)
        copies = (seen[-1] == ELSEWHERE).all(1)
        assert len(seen[-1]) == 4 + 4 and int(copies.sum()) == 1
        assert losses["loss_objectness"] > 100 and losses["loss_classifier"] > 100


@pytest.mark.parametrize(("classes", "label", "taught"), [(1, 1, True), (2, 1, False), (2, 0, True)])
def test_objectness_learns_only_what_holds_for_every_class(tiny, classes, label, taught):
    """A negative of one class among several is left out of objectness; else its anchors are all taken."""
    detector = tiny("faster_rcnn", class_names=("disc", "square")[:classes])
    anchors = torch.cat([ELSEWHERE, ELSEWHERE + 1, POSITIVE])
    labels = contract.to_labels(hard(2.0, label, ignore=torch.zeros(0, 4)), torch.device("cpu"))
    left, plan = detector.net.rpn._plan(torch.zeros(3), torch.zeros(3, 4), anchors, labels)
    assert left.tolist() == [-1, -1, 0]
    assert plan.hard.tolist() == [taught, taught, False]
    assert plan.weights.tolist() == ([2, 2, 1] if taught else [1, 1, 1])


def test_objectness_loss_by_hand(tiny):
    """A soft positive of weight 0.5, an ignored anchor, a hard negative of weight 3 and plain background."""
    rpn = tiny("faster_rcnn", class_names=("disc",)).net.rpn
    target = Target(
        POSITIVE,
        torch.tensor([1]),
        weights=torch.tensor([0.5]),
        soft_scores=torch.tensor([0.3]),
        negatives_xyxy=ELSEWHERE,
        negative_weights=torch.tensor([3.0]),
        ignore_xyxy=torch.tensor([[0.0, 60.0, 30.0, 96.0]]),
    )
    ignored, plain = torch.tensor([[2.0, 62.0, 28.0, 90.0]]), torch.tensor([[60.0, 2.0, 90.0, 30.0]])
    anchors = [torch.cat([POSITIVE, ignored, ELSEWHERE, plain])]
    assigned, _ = rpn.assign_targets_to_anchors(anchors, [contract.to_labels(target, torch.device("cpu"))])
    assert assigned[0].tolist() == [1, -1, -1, 0]
    logits = torch.tensor([0.7, 5.0, 1.2, -0.4])
    deltas, wanted = torch.full((4, 4), 2.0), torch.zeros(4, 4)
    objectness, box = rpn.compute_loss(logits[:, None], deltas, assigned, [wanted])
    p = logits.double().sigmoid()
    own = -(0.3 * p[0].log() + 0.7 * (1 - p[0]).log())
    expected = (0.5 * own - 3 * (1 - p[2]).log() - (1 - p[3]).log()) / 3
    assert objectness.item() == pytest.approx(expected.item(), rel=1e-5)
    assert box.item() == pytest.approx(0.5 * 4 * (2 - 1 / 18) / 3, rel=1e-5)  # smooth L1, beta 1/9


def test_what_each_proposal_teaches_by_hand(tiny):
    """A positive is no hard negative though one of another class lies on it; each keeps its own weight."""
    heads = tiny("faster_rcnn", negative_repeats=1).net.roi_heads
    labels = contract.to_labels(
        Target(
            POSITIVE,
            torch.tensor([1]),
            weights=torch.tensor([0.5]),
            negatives_xyxy=torch.cat([POSITIVE, ELSEWHERE]),
            negative_labels=torch.tensor([2, 1]),
            negative_weights=torch.tensor([4.0, 3.0]),
        ),
        torch.device("cpu"),
    )
    plain = torch.tensor([[60.0, 2.0, 90.0, 30.0]])
    samples = heads._candidates(torch.cat([POSITIVE, ELSEWHERE, plain]), labels)
    # three proposals, the true box, a copy of each hard negative
    assert samples.labels.tolist() == [1, 0, 0, 1, 0, 0]
    assert samples.weights.tolist() == [0.5, 3, 1, 0.5, 4, 3]
    assert samples.forced.tolist() == [False, False, False, False, True, True]
    nothing, first, second = [False] * 3, [False, True, False], [False, False, True]
    assert samples.ruled_out.tolist() == [nothing, first, nothing, nothing, second, first]
