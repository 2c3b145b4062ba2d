import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_iou

from hem.errors import HemError
from hem.replay.frames import anchor_kinds, balanced, frame_weights, partial_targets
from hem.structures import HardExample, Kind

NEGATIVE, POSITIVE, PSEUDO, IGNORE = Kind.HARD_NEGATIVE, Kind.HARD_POSITIVE, Kind.PSEUDO_LABEL, Kind.IGNORE
FLICKERS = (NEGATIVE, PSEUDO, IGNORE)
ALL = tuple(Kind)
A, B, C, D = (0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10), (60, 0, 70, 10)


def test_each_kind_goes_to_its_place(example):
    mined = [
        example(3, NEGATIVE, A, weight=0.5, label=2),
        example(3, POSITIVE, B, weight=0.25, score=None),
        example(3, PSEUDO, C, weight=0.75, score=0.8),
        example(3, IGNORE, D, label=0),
    ]
    target = partial_targets(mined, ALL)[("a.mp4", 3)]
    assert target.boxes_xyxy.tolist() == [list(C), list(B)]  # greatest weight first
    assert target.box_weights.tolist() == [0.75, 0.25]
    boxes, labels, weights = target.hard_negatives
    assert (boxes.tolist(), labels.tolist(), weights.tolist()) == ([list(A)], [2], [0.5])
    assert target.ignore_xyxy.tolist() == [list(D)]
    assert target.soft_scores is None
    assert target.name == "a.mp4#000003"


@pytest.mark.parametrize(
    ("kinds", "frames"),
    [
        ((PSEUDO,), [1, 2, 3]),
        ((PSEUDO, IGNORE), [1, 2, 3]),
        (FLICKERS, [1]),
        (ALL, [1, 2]),
        ((POSITIVE,), [2]),
        ((IGNORE,), []),
        ((), []),
    ],
)
def test_frames_of_each_arm(example, kinds, frames):
    mined = [example(f, PSEUDO, A) for f in (1, 2, 3)]
    mined += [example(1, NEGATIVE, B), example(2, POSITIVE, B), example(4, IGNORE, B)]
    assert [key[1] for key in partial_targets(mined, kinds)] == frames
    assert [key[1] for key in frame_weights(mined, kinds)] == frames


def test_anchor_kinds_take_strings_too():
    assert anchor_kinds(["hard_negative", "pseudo_label"]) == {NEGATIVE}


@pytest.mark.parametrize("unused", [POSITIVE, PSEUDO, NEGATIVE])
def test_unused_kind_becomes_ignore_region(example, unused):
    kinds = [kind for kind in ALL if kind is not unused]
    anchor = POSITIVE if unused is NEGATIVE else NEGATIVE
    target = partial_targets([example(0, anchor, A), example(0, unused, B)], kinds)[("a.mp4", 0)]
    assert target.ignore_xyxy.tolist() == [list(B)]
    assert len(target.boxes_xyxy) + len(target.negatives_xyxy) == 1


def test_background_kind_leaves_no_trace_but_chooses_the_frame(example):
    mined = [example(0, NEGATIVE, A), example(0, PSEUDO, B)]
    target = partial_targets(mined, FLICKERS, background=[NEGATIVE])[("a.mp4", 0)]
    assert (len(target.negatives_xyxy), len(target.ignore_xyxy)) == (0, 0)
    assert target.boxes_xyxy.tolist() == [list(B)]


def test_frame_with_nothing_but_background_is_legal(example):
    target = partial_targets([example(0, NEGATIVE, A)], FLICKERS, background=[NEGATIVE])[("a.mp4", 0)]
    assert (len(target.boxes_xyxy), len(target.negatives_xyxy), len(target.ignore_xyxy)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("negative_weight", "positive_weight", "kept"),
    [(0.9, 0.5, "negative"), (0.5, 0.9, "positive"), (0.7, 0.7, "positive")],
)
def test_conflict_leaves_the_heavier(example, negative_weight, positive_weight, kept):
    mined = [
        example(0, NEGATIVE, (0, 0, 10, 10), weight=negative_weight),
        example(0, PSEUDO, (0, 0, 10, 9), weight=positive_weight),
    ]
    target = partial_targets(mined, FLICKERS)[("a.mp4", 0)]
    assert (len(target.negatives_xyxy), len(target.boxes_xyxy)) == ((1, 0) if kept == "negative" else (0, 1))
    assert len(target.ignore_xyxy) == 1


def test_conflict_boundary(example):
    # boxes 10 x 10 and 10 x 5 inside it: IoU is exactly 0.5, which Target refuses
    at = [example(0, NEGATIVE, (0, 0, 10, 10)), example(0, PSEUDO, (0, 0, 10, 5))]
    below = [example(0, NEGATIVE, (0, 0, 10, 10)), example(0, PSEUDO, (0, 0, 10, 4.99))]
    assert len(partial_targets(at, FLICKERS)[("a.mp4", 0)].negatives_xyxy) == 0
    assert len(partial_targets(below, FLICKERS)[("a.mp4", 0)].negatives_xyxy) == 1


def test_other_class_is_no_conflict(example):
    mined = [example(0, NEGATIVE, A, label=1), example(0, PSEUDO, A, label=2)]
    target = partial_targets(mined, FLICKERS)[("a.mp4", 0)]
    assert (len(target.negatives_xyxy), len(target.boxes_xyxy)) == (1, 1)


def test_same_object_twice_is_one_box(example):
    mined = [
        example(0, NEGATIVE, D),
        example(0, PSEUDO, (0, 0, 10, 10), weight=0.5),
        example(0, POSITIVE, (0, 0, 10, 7), weight=0.9),  # IoU exactly 0.7: the same object
        example(0, PSEUDO, (20, 0, 30, 10)),
        example(0, POSITIVE, (20, 0, 30, 6.9)),  # just below: two objects
    ]
    target = partial_targets(mined, ALL)[("a.mp4", 0)]
    assert sorted(target.boxes_xyxy[:, 3].tolist()) == pytest.approx([6.9, 7.0, 10.0])
    assert len(target.ignore_xyxy) == 0


def test_repeated_example_keeps_the_greater_weight(example):
    mined = [example(0, NEGATIVE, A, weight=0.2), example(0, NEGATIVE, A, weight=0.6, rule="paper")]
    target = partial_targets(mined, ALL)[("a.mp4", 0)]
    assert target.hard_negatives[2].tolist() == pytest.approx([0.6])
    assert frame_weights(mined, ALL) == {("a.mp4", 0): 0.6}


def test_weight_zero(example):
    mined = [example(0, NEGATIVE, A, weight=0), example(0, PSEUDO, B, weight=0), example(0, POSITIVE, C)]
    target = partial_targets(mined, ALL)[("a.mp4", 0)]
    assert target.ignore_xyxy.tolist() == [list(B)]
    assert len(target.negatives_xyxy) == 0
    assert partial_targets([example(0, NEGATIVE, A, weight=0)], ALL) == {}


def test_boxes_are_cut_to_the_frame(example):
    mined = [
        example(0, NEGATIVE, (-5, -5, 10, 200)),
        example(0, PSEUDO, (64, 0, 80, 20)),  # touches the right edge from outside: nothing inside
    ]
    target = partial_targets(mined, ALL, sizes={"a.mp4": (64, 48)})[("a.mp4", 0)]
    assert target.negatives_xyxy.tolist() == [[0, 0, 10, 48]]
    assert (len(target.boxes_xyxy), len(target.ignore_xyxy)) == (0, 0)


def test_sliver_lost_in_float32_is_left_out(example):
    mined = [example(0, PSEUDO, (1000, 0, 1000 + 1e-9, 5)), example(0, NEGATIVE, A)]
    assert len(partial_targets(mined, ALL)[("a.mp4", 0)].boxes_xyxy) == 0


def test_soft_scores(example):
    mined = [
        example(0, NEGATIVE, A),
        example(0, PSEUDO, B, score=0.7, weight=0.9),
        example(0, POSITIVE, C, score=None, weight=0.5),
        example(1, POSITIVE, B, score=0.1, weight=0.9),  # missed at this score, which is not what to teach
        example(1, POSITIVE, C, score=0.8, weight=0.5),
    ]
    targets = partial_targets(mined, ALL, soft_scores=True, tracker_score=0.6)
    soft = [targets["a.mp4", frame].soft_scores for frame in (0, 1)]
    assert [one.tolist() for one in soft] == [pytest.approx([0.7, 0.6]), pytest.approx([0.6, 0.8])]
    with pytest.raises(HemError, match=r"a\.mp4#000000.*\[0, 1\], got 7"):
        partial_targets([*mined, example(0, PSEUDO, D, score=7)], ALL, soft_scores=True)
    partial_targets([*mined, example(0, PSEUDO, D, score=7)], ALL)  # raw scores are fine otherwise


BOXES = st.tuples(*[st.integers(0, 12)] * 2, *[st.integers(1, 8)] * 2)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            BOXES,
            st.sampled_from(ALL),
            st.integers(1, 2),
            st.sampled_from([0.0, 0.3, 0.5, 1.0]),
        ),
        max_size=8,
    ),
    st.sets(st.sampled_from(ALL)),
    st.randoms(use_true_random=False),
)
def test_never_raises_loses_no_object_and_order_is_nothing(rows, kinds, random):
    mined = [
        HardExample("v", "d", 0, 0.0, (x, y, x + w, y + h), label, kind, 0.5, weight, "r")
        for (x, y, w, h), kind, label, weight in rows
    ]
    targets = partial_targets(mined, kinds)
    shuffled = list(mined)
    random.shuffle(shuffled)
    again = partial_targets(shuffled, kinds)
    assert targets.keys() == again.keys()
    for key, target in targets.items():
        assert torch.equal(target.boxes_xyxy, again[key].boxes_xyxy)
        assert torch.equal(target.negatives_xyxy, again[key].negatives_xyxy)
        covered = torch.cat([target.boxes_xyxy, target.ignore_xyxy])
        for one in mined:  # whatever might be an object is never left to be taught as background
            if one.kind in (POSITIVE, PSEUDO):
                assert float(box_iou(torch.tensor([one.box_xyxy]).float(), covered).max()) >= 0.7


def test_label_share_splits_the_draws(example):
    mined = [example(1, NEGATIVE, A, weight=0.5), example(1, PSEUDO, B, weight=1.0)]
    mined += [example(f, PSEUDO, C, weight=1.0) for f in (2, 3, 4)]
    mined.append(example(5, IGNORE, C))
    assert frame_weights(mined, FLICKERS, 0.0) == {("a.mp4", 1): 0.5}
    weights = frame_weights(mined, FLICKERS, 0.75)
    assert [key[1] for key in weights] == [1, 2, 3, 4]
    # a quarter by the one negative (0.5), three quarters (1.5) shared by the four pseudo-labels
    assert list(weights.values()) == pytest.approx([0.5 + 0.375, 0.375, 0.375, 0.375])
    assert [key[1] for key in partial_targets(mined, FLICKERS, label_share=0.75)] == [1, 2, 3, 4]


def test_label_share_does_not_matter_where_one_part_is_missing(example):
    labels = [example(f, PSEUDO, A, weight=0.5) for f in (1, 2)]
    assert frame_weights(labels, ALL, 0.3) == {("a.mp4", 1): 0.5, ("a.mp4", 2): 0.5}
    hard = [example(1, NEGATIVE, A, weight=0.5)]
    assert frame_weights(hard, ALL, 0.3) == {("a.mp4", 1): 0.5}
    assert frame_weights(hard, [NEGATIVE], 0.3) == {("a.mp4", 1): 0.5}


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_label_share_out_of_range(example, share):
    with pytest.raises(HemError, match="label_share"):
        frame_weights([example(1, NEGATIVE, A)], ALL, share)


def test_balance_evens_out_the_videos_and_keeps_the_sum():
    weights = {("a.mp4", 1): 6.0, ("a.mp4", 2): 3.0, ("b.mp4", 1): 1.0}
    assert balanced(weights, 0.0) == weights
    even = balanced(weights, 1.0)
    assert even == pytest.approx({("a.mp4", 1): 10 / 3, ("a.mp4", 2): 5 / 3, ("b.mp4", 1): 5.0})
    half = balanced(weights, 0.5)
    assert sum(half.values()) == pytest.approx(10)
    # the totals 9 and 1 are drawn as their roots 3 and 1
    assert half["a.mp4", 1] + half["a.mp4", 2] == pytest.approx(3 * half["b.mp4", 1])
    assert balanced({}, 1.0) == {}


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_balance_out_of_range(bad):
    with pytest.raises(HemError, match="video_balance"):
        balanced({("a.mp4", 1): 1.0}, bad)
