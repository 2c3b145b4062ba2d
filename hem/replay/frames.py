"""From mined boxes to the partly labelled target of each frame."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from hem.errors import HemError
from hem.structures import HardExample, Kind, Target

FrameKey = tuple[str, int]
HARD = frozenset({Kind.HARD_NEGATIVE, Kind.HARD_POSITIVE})
POSITIVE = frozenset({Kind.HARD_POSITIVE, Kind.PSEUDO_LABEL})
CONFLICT_IOU = 0.5  # the value at which Target itself refuses a positive and a negative of one class
DUPLICATE_IOU = 0.7  # above what non-maximum suppression of any detector here leaves standing


def frame_name(key: FrameKey) -> str:
    """Return how a frame is called in messages and in COCO files: ``video_id#000012``."""
    return f"{key[0]}#{key[1]:06d}"


def anchor_kinds(kinds: Collection[Kind], label_share: float = 0.0) -> frozenset[Kind]:
    """Return the kinds whose presence makes a frame worth replaying.

    Hard negatives and hard positives, if ``kinds`` has either; otherwise pseudo-labels. So
    ``{hard_negative, pseudo_label}`` takes the frames with a flicker, adding ``hard_positive``
    takes those with a gap too, and ``{pseudo_label}`` alone takes every frame with a pseudo-label.
    With ``label_share`` > 0 pseudo-labels that are used make a frame worth replaying in any case.
    """
    used = frozenset(Kind(kind) for kind in kinds)
    hard, labels = used & HARD, used & {Kind.PSEUDO_LABEL}
    return hard | labels if label_share > 0 else hard or labels


def by_frame(examples: Iterable[HardExample]) -> dict[FrameKey, list[HardExample]]:
    """Group examples by frame, frames sorted, without repeats of one example id.

    Of an example given twice (two rules, two rounds) the one of greatest weight stays; on a tie
    the first by rule name and round.
    """
    best: dict[str, HardExample] = {}
    for example in sorted(examples, key=lambda e: (-e.weight, e.rule, e.round)):
        best.setdefault(f"{example.video_id}|{example.example_id}", example)
    groups: dict[FrameKey, list[HardExample]] = {}
    for example in best.values():
        groups.setdefault((example.video_id, example.frame_index), []).append(example)
    return {key: sorted(groups[key], key=_order) for key in sorted(groups)}


def _order(example: HardExample) -> tuple[float, bool, str]:
    """Greatest weight first; on a tie positives before negatives, then by id."""
    return (-example.weight, example.kind not in POSITIVE, example.example_id)


def anchored_frames(
    examples: Sequence[HardExample], kinds: Collection[Kind], label_share: float = 0.0
) -> dict[FrameKey, tuple[float, tuple[HardExample, ...]]]:
    """Return the frames an arm with these ``kinds`` replays: drawing weight and anchors of each.

    The weight is the sum over the frame's anchors (see anchor_kinds) of weight > 0, so drawing frames
    by it is the same as drawing examples by their weights.

    Args:
        examples: mined boxes.
        kinds: what the arm uses.
        label_share: share of the draws, in [0, 1), that goes by pseudo-labels instead of by hard
            examples. 0 replays frames with a hard example alone, as the paper did; where those are
            few, training sees little else of the video and forgets the rest, so raising it gives
            wider cover at the price of fewer draws of what is hard. Where only one of the two was
            found, all draws go by it.

    Raises:
        HemError: if ``label_share`` is out of range.
    """
    if not 0 <= label_share < 1:
        raise HemError(f"replay label_share must lie in [0, 1), got {label_share}")
    wanted = anchor_kinds(kinds, label_share)
    found = {}
    for key, group in by_frame(examples).items():
        anchors = tuple(example for example in group if example.kind in wanted and example.weight > 0)
        if anchors:
            found[key] = anchors
    hard, labels = (
        sum(e.weight for anchors in found.values() for e in anchors if (e.kind in HARD) is part)
        for part in (True, False)
    )
    scale = label_share / (1 - label_share) * hard / labels if hard and labels else 1.0
    return {
        key: (float(sum(e.weight * (1.0 if e.kind in HARD else scale) for e in anchors)), anchors)
        for key, anchors in found.items()
    }


def frame_weights(
    examples: Sequence[HardExample], kinds: Collection[Kind], label_share: float = 0.0
) -> dict[FrameKey, float]:
    """Return the drawing weight of every frame that is replayed; see anchored_frames."""
    return {key: weight for key, (weight, _) in anchored_frames(examples, kinds, label_share).items()}


def balanced(weights: Mapping[FrameKey, float], video_balance: float) -> dict[FrameKey, float]:
    """Return drawing weights with the videos evened out; their sum stays what it was.

    One false alarm that stands still before a fixed camera gives a hard negative in every frame, so
    that most draws would show that one scene.

    Args:
        weights: drawing weight of each frame of one round, > 0.
        video_balance: in [0, 1]; a video's weight is divided by its total to this power. 0 draws by
            weight alone; at 1 every video is drawn equally often, however little was found in it: a
            video with few mined frames then repeats those.

    Raises:
        HemError: if ``video_balance`` is out of range.
    """
    if not 0 <= video_balance <= 1:
        raise HemError(f"replay video_balance must lie in [0, 1], got {video_balance}")
    if not video_balance:
        return dict(weights)
    totals: dict[str, float] = {}
    for (video_id, _), weight in weights.items():
        totals[video_id] = totals.get(video_id, 0.0) + weight
    evened = {key: weight / totals[key[0]] ** video_balance for key, weight in weights.items()}
    scale = sum(weights.values()) / sum(evened.values()) if evened else 1.0
    return {key: weight * scale for key, weight in evened.items()}


def partial_targets(
    examples: Sequence[HardExample],
    kinds: Collection[Kind],
    *,
    label_share: float = 0.0,
    background: Collection[Kind] = (),
    soft_scores: bool = False,
    tracker_score: float = 1.0,
    sizes: Mapping[str, tuple[int, int]] | None = None,
) -> dict[FrameKey, Target]:
    """Build the target of every frame that an arm with these ``kinds`` replays.

    Pseudo-labels and hard positives become weighted boxes, hard negatives weighted negatives, and
    ignore regions stay what they are, whatever ``kinds`` says. A kind that is *not* in ``kinds``
    becomes an ignore region, so that an object left out is never taught as background; only the
    kinds named in ``background`` are left out altogether (``{hard_negative}`` with kinds
    ``{hard_negative, pseudo_label}`` trains as the paper did: flickers unlabelled, nothing more).

    Where a negative overlaps a positive of its class with IoU >= 0.5, the one of lower weight
    becomes an ignore region (on a tie the negative: a false negative costs recall). Of two positives
    of one class with IoU >= 0.7, the one of lower weight is dropped: it is the same object. A frame
    with no positive left is legal: it teaches background and negatives.

    Args:
        examples: mined boxes of any number of videos.
        kinds, label_share: what the arm uses; also decides the frames (see anchored_frames).
        background: kinds that leave no trace in the target, although they may choose the frame.
        soft_scores: fill ``Target.soft_scores`` with the teacher's scores; hard positives get
            ``tracker_score`` (in [0, 1]) where that is higher, since they were missed at the teacher's own.
        tracker_score: see ``soft_scores``. Lowering it trusts tracked boxes less.
        sizes: (width, height) in pixels by video id; boxes are cut to the frame, and those with
            nothing inside are left out.

    Returns:
        Targets by (video_id, frame_index), sorted; boxes in pixels of the original frame.

    Raises:
        HemError: if soft scores are asked for and a score lies outside [0, 1].
    """
    used = frozenset(Kind(kind) for kind in kinds)
    silent = frozenset(Kind(kind) for kind in background)
    targets: dict[FrameKey, Target] = {}
    frames = anchored_frames(examples, used, label_share)
    for key, group in by_frame(examples).items():
        if key not in frames:
            continue
        size = (sizes or {}).get(key[0])
        inside = [cut for one in group if one.kind not in silent and (cut := _cut(one, size)) is not None]
        positives, negatives, ignored = _sort_out(inside, used)
        targets[key] = Target(
            boxes_xyxy=_boxes(positives),
            labels=torch.tensor([e.label for e in positives], dtype=torch.int64),
            weights=torch.tensor([e.weight for e in positives], dtype=torch.float32),
            negatives_xyxy=_boxes(negatives),
            negative_labels=torch.tensor([e.label for e in negatives], dtype=torch.int64),
            negative_weights=torch.tensor([e.weight for e in negatives], dtype=torch.float32),
            ignore_xyxy=_boxes(ignored),
            soft_scores=_soft(positives, tracker_score) if soft_scores else None,
            name=frame_name(key),
            conflict_iou=CONFLICT_IOU,
        )
    return targets


def _cut(example: HardExample, size: tuple[int, int] | None) -> HardExample | None:
    """Return the example with its box cut to the frame, or None if nothing of it is left."""
    left, top, right, bottom = example.box_xyxy
    if size is not None and size[0] > 0 and size[1] > 0:
        width, height = size
        left, top, right, bottom = max(left, 0.0), max(top, 0.0), min(right, width), min(bottom, height)
    # Target keeps float32, in which a sliver may lose its extent
    sides = torch.tensor([left, top, right, bottom], dtype=torch.float32)
    if not (bool(sides[2] > sides[0]) and bool(sides[3] > sides[1])):
        return None
    return replace(example, box_xyxy=(left, top, right, bottom))


def _sort_out(
    examples: Sequence[HardExample], used: Collection[Kind]
) -> tuple[list[HardExample], list[HardExample], list[HardExample]]:
    """Split one frame's examples (greatest weight first) into positives, negatives and ignored."""
    positives: list[HardExample] = []
    negatives: list[HardExample] = []
    ignored: list[HardExample] = []
    for example in sorted(examples, key=_order):
        if example.kind is Kind.IGNORE or example.kind not in used:
            ignored.append(example)
        elif example.kind in POSITIVE:
            if example.weight == 0 or _overlaps(example, negatives, CONFLICT_IOU):
                ignored.append(example)
            elif not _overlaps(example, positives, DUPLICATE_IOU):
                positives.append(example)
        elif example.weight > 0:  # a negative of weight 0 teaches nothing and hides nothing
            if _overlaps(example, positives, CONFLICT_IOU):
                ignored.append(example)
            else:
                negatives.append(example)
    return positives, negatives, ignored


def _overlaps(example: HardExample, others: Sequence[HardExample], iou: float) -> bool:
    same_class = [other for other in others if other.label == example.label]
    if not same_class:
        return False
    # the same function on the same float32 numbers as in Target, so that both draw one line
    from torchvision.ops import box_iou  # see hem.structures.target

    return bool((box_iou(_boxes([example]), _boxes(same_class)) >= iou).any())


def _boxes(examples: Sequence[HardExample]) -> Tensor:
    return torch.tensor([e.box_xyxy for e in examples], dtype=torch.float32).reshape(-1, 4)


def _soft(positives: Sequence[HardExample], tracker_score: float) -> Tensor:
    for example in positives:
        if example.score is not None and not 0 <= example.score <= 1:
            raise HemError(
                f"{frame_name((example.video_id, example.frame_index))}: soft labels need scores in "
                f"[0, 1], got {example.score}; calibrate the scores or turn soft labels off"
            )
    # a hard positive was missed at its score: taught that, it would be held down where it is to be raised
    scores = [
        max(tracker_score, e.score or 0.0) if e.kind is Kind.HARD_POSITIVE or e.score is None else e.score
        for e in positives
    ]
    return torch.tensor(scores, dtype=torch.float32)
