"""Disturbances map boxes exactly; the answers are the right ones; frames are chosen within budget."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hem.errors import HemError
from hem.mining.collect import collect_evidence
from hem.mining.elicited import (
    DISTURBANCES,
    choose_frames,
    disturbances,
    elicit,
    mean_response,
)
from hem.structures import Detections
from hem.structures.evidence import CollectSettings

PHOTOMETRIC = {"darker", "brighter", "flatter", "grey", "noise", "noise_more", "blur", "jpeg"}


def detections(boxes, scores, labels=None):
    labels = [1] * len(scores) if labels is None else labels
    scores = torch.tensor(scores, dtype=torch.float64)
    return Detections(torch.tensor(boxes).reshape(-1, 4), scores, torch.tensor(labels))


def random_frame(height=60, width=100, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (3, height, width), dtype=np.uint8))


def bright_box(frame):
    """Bounds of the pixels above half, the way a perfect detector would see one bright square."""
    rows = (frame[0] > 127).any(1).nonzero().reshape(-1)
    columns = (frame[0] > 127).any(0).nonzero().reshape(-1)
    return torch.tensor([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], dtype=torch.float64)


@pytest.mark.parametrize("name", list(DISTURBANCES))
def test_a_disturbance_is_pure_repeatable_and_keeps_the_size(name):
    frame = random_frame()
    before = frame.clone()
    one, two = DISTURBANCES[name].apply(frame), DISTURBANCES[name].apply(frame)
    assert torch.equal(frame, before)
    assert one.dtype == torch.uint8 and one.shape == frame.shape
    assert torch.equal(one, two)
    assert not torch.equal(one, frame)


@pytest.mark.parametrize("name", list(DISTURBANCES))
@pytest.mark.parametrize("size", [(240, 320), (241, 323)])
def test_what_is_drawn_is_found_where_the_map_says(name, size):
    height, width = size
    frame = torch.zeros(3, height, width, dtype=torch.uint8)
    tops = {"bottom": 150, "top": 20}
    lefts = {"right": 200, "left": 30}
    top = next((v for k, v in tops.items() if k in name), 100)
    left = next((v for k, v in lefts.items() if k in name), 100)
    frame[:, top : top + 60, left : left + 80] = 255
    box = torch.tensor([[left, top, left + 80, top + 60]], dtype=torch.float64)
    disturbance = DISTURBANCES[name]
    assert bool(disturbance.visible(box, height, width).all())
    if name in ("shrink", "shrink_more"):  # the grey border is below half, so only the square counts
        assert disturbance.geometry(height, width).scale_x < 1
    found = bright_box(disturbance.apply(frame))
    back = disturbance.to_original(found, height, width)
    # one pixel of the disturbed frame, in pixels of the original
    assert torch.allclose(back, box, atol=1.0 / 0.65)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(DISTURBANCES)),
    st.tuples(st.integers(8, 500), st.integers(8, 500)),
    st.lists(st.floats(-50, 600), min_size=4, max_size=4),
)
def test_the_box_map_is_exact_both_ways(name, size, numbers):
    a, b, c, d = numbers
    box = torch.tensor([[min(a, b), min(c, d), max(a, b), max(c, d)]], dtype=torch.float64)
    geometry = DISTURBANCES[name].geometry(*size)
    there = geometry.forward(box)
    assert bool((there[:, 2:] >= there[:, :2]).all())
    assert torch.allclose(DISTURBANCES[name].to_original(there, *size), box, atol=1e-9)


def test_mirror_by_hand():
    box = torch.tensor([[10.0, 5.0, 30.0, 25.0]], dtype=torch.float64)
    assert DISTURBANCES["mirror"].to_original(box, 60, 100).tolist() == [[70.0, 5.0, 90.0, 25.0]]
    assert DISTURBANCES["mirror"].to_original(torch.zeros(0, 4, dtype=torch.float64), 60, 100).shape == (0, 4)


def test_shift_repeats_the_border_and_loses_what_leaves():
    frame = random_frame(20, 30)
    moved = DISTURBANCES["shift"].apply(frame)
    assert torch.equal(moved[:, 3:, 5:], frame[:, :-3, :-5])
    assert torch.equal(moved[:, 0, 5:], frame[:, 0, :-5])
    boxes = torch.tensor([[0, 0, 25, 17], [0, 0, 25.01, 17], [0, 0, 25, 17.01]], dtype=torch.float64)
    assert DISTURBANCES["shift"].visible(boxes, 20, 30).tolist() == [True, False, False]


def test_a_crop_shows_a_box_up_to_its_very_edge():
    boxes = torch.tensor([[0, 0, 80, 48], [0, 0, 80.1, 48], [10, 10, 80, 48.1]], dtype=torch.float64)
    assert DISTURBANCES["zoom_top_left"].visible(boxes, 60, 100).tolist() == [True, False, False]
    outside = torch.tensor([[-5, -5, 80, 48], [90, 50, 110, 70]], dtype=torch.float64)
    assert DISTURBANCES["zoom_top_left"].visible(outside, 60, 100).tolist() == [True, False]
    assert DISTURBANCES["zoom_bottom_right"].visible(outside, 60, 100).tolist() == [False, True]


def test_noise_follows_the_content_and_nothing_else():
    one, other = random_frame(seed=1), random_frame(seed=2)
    noise = DISTURBANCES["noise"].apply
    torch.manual_seed(4)
    first = noise(one)
    torch.manual_seed(5)
    assert torch.equal(first, noise(one))
    grey = torch.full((3, 64, 64), 100, dtype=torch.uint8)
    added = noise(grey).float() - 100
    assert 5 < float(added.std()) < 7 and abs(float(added.mean())) < 0.5
    assert not torch.equal(noise(one).int() - one.int(), noise(other).int() - other.int())


def test_names_are_checked():
    with pytest.raises(HemError, match="'twirl' is unknown"):
        disturbances(["mirror", "twirl"])
    with pytest.raises(HemError, match="twice"):
        disturbances(["mirror", "mirror"])
    assert [one.name for one in disturbances(["noise", "mirror"])] == ["noise", "mirror"]


def test_elicit_maps_back_and_takes_the_best_of_the_class():
    calls = []

    def detect(frames):
        calls.append(tuple(frames.shape))
        # the mirrored frame holds the object at 60..80; the darker one holds two answers and a stranger
        mirrored = detections([[60.0, 10, 80, 30]], [0.7])
        darker = detections(
            [[20.0, 10, 40, 30], [21, 10, 41, 30], [20, 10, 40, 30]], [0.5, 0.6, 0.9], [1, 1, 2]
        )
        return [mirrored, darker]

    scores, ious, _ = elicit(
        random_frame(), np.array([[20.0, 10, 40, 30], [70, 40, 90, 55]]), np.array([1, 1]), detect,
        ["mirror", "darker"],
    )  # fmt: skip
    assert calls == [(2, 3, 60, 100)]
    assert scores.tolist() == [[0.7, 0.6], [0.0, 0.0]]
    assert ious[0, 0] == 1.0 and ious[0, 1] == pytest.approx(19 / 21)
    assert ious[1].tolist() == [0.0, 0.0]


def test_an_overlap_exactly_at_the_threshold_does_not_answer():
    def detect(frames):
        return [detections([[0.0, 0, 10, 20]], [0.9]) for _ in frames]

    box, label = np.array([[0.0, 0, 10, 10]]), np.array([1])
    at, _, _ = elicit(random_frame(), box, label, detect, ["darker"], iou_threshold=0.5)
    above, iou, _ = elicit(random_frame(), box, label, detect, ["darker"], iou_threshold=0.4999)
    assert at.tolist() == [[0.0]] and above.tolist() == [[0.9]] and iou.tolist() == [[0.5]]


def test_what_a_crop_hides_is_nan_and_is_not_asked_when_nothing_is_visible():
    asked = []

    def detect(frames):
        asked.append(len(frames))
        return [Detections.empty() for _ in frames]

    zooms = ["zoom_top_left", "zoom_bottom_right"]
    scores, ious, _ = elicit(
        random_frame(), torch.tensor([[0.0, 0, 10, 10], [1, 1, 99, 59]]), torch.tensor([1, 1]), detect, zooms
    )
    assert asked == [1]
    assert np.array_equal(scores, [[0.0, np.nan], [np.nan, np.nan]], equal_nan=True)
    assert np.array_equal(np.isnan(ious), np.isnan(scores))
    assert np.array_equal(mean_response(scores), [0.0, np.nan], equal_nan=True)


def test_no_boxes_costs_no_pass():
    def detect(frames):
        raise AssertionError("nothing to ask")

    scores, ious, _ = elicit(random_frame(), np.zeros((0, 4)), np.zeros(0), detect, ["mirror", "noise"])
    assert scores.shape == ious.shape == (0, 2)
    assert mean_response(scores).shape == (0,)


def test_the_batch_limit_changes_nothing_but_the_calls():
    sizes = []

    def detect(frames):
        sizes.append(len(frames))
        return [detections([[0.0, 0, 100, 60]], [round(float(f.float().mean()) / 255, 6)]) for f in frames]

    names = ["mirror", "darker", "brighter", "noise", "blur"]
    box, label = np.array([[0.0, 0, 100, 60]]), np.array([1])
    whole = elicit(random_frame(), box, label, detect, names)[0]
    parts = elicit(random_frame(), box, label, detect, names, max_batch=2)[0]
    assert sizes == [5, 2, 2, 1]
    assert np.array_equal(whole, parts) and len(set(whole[0].tolist())) >= 4


def test_a_detector_that_loses_frames_is_named():
    with pytest.raises(HemError, match="answered for 1 frames of 2"):
        elicit(
            random_frame(), np.array([[0.0, 0, 9, 9]]), np.array([1]), lambda f: [Detections.empty()],
            ["mirror", "noise"],
        )  # fmt: skip


def test_mean_response_by_hand():
    scores = np.array([[0.2, 0.4, np.nan], [0.0, 0.0, 0.3], [np.nan] * 3])
    assert mean_response(scores)[:2] == pytest.approx([0.3, 0.1])
    assert np.isnan(mean_response(scores)[2])
    assert np.isnan(mean_response(np.zeros((2, 0)))).all()


def test_frames_with_undecided_candidates_come_first():
    frames = np.array([0, 1, 1, 2, 3])
    scores = np.array([0.99, 0.5, 0.45, 0.4, 0.01])
    chosen = choose_frames(frames, scores, passes_per_frame=4, budget_passes=11)
    assert chosen.tolist() == [1, 2]
    assert choose_frames(frames, scores, passes_per_frame=4, budget_passes=4).tolist() == [1]
    assert choose_frames(frames, scores, passes_per_frame=4, budget_passes=3).tolist() == []
    assert choose_frames(frames, scores, passes_per_frame=1, budget_passes=99).tolist() == [0, 1, 2, 3]


def test_doubt_decides_and_what_is_not_doubted_costs_nothing():
    frames, scores = np.arange(4), np.full(4, 0.5)
    doubt = np.array([0.1, 0.0, 1.0, 0.5])
    assert choose_frames(frames, scores, doubt, passes_per_frame=1, budget_passes=1).tolist() == [2]
    assert choose_frames(frames, scores, doubt, passes_per_frame=1, budget_passes=9).tolist() == [0, 2, 3]


def test_equal_worth_goes_to_the_earlier_frame_and_order_does_not_matter():
    frames = np.array([5, 3, 9, 3])
    scores = np.array([0.4, 0.4, 0.4, 0.4])
    assert choose_frames(frames, scores, passes_per_frame=1, budget_passes=2).tolist() == [3, 5]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(0, 40))
def test_choice_is_within_budget_free_of_scale_and_order(seed, passes, budget):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(0, 40))
    frames = rng.integers(0, 12, count)
    scores = rng.integers(0, 6, count) / 4.0
    doubt = rng.integers(0, 4, count) / 4.0
    limits = {"passes_per_frame": passes, "budget_passes": budget}
    chosen = choose_frames(frames, scores, doubt, **limits)
    assert len(chosen) * passes <= budget
    assert set(chosen) <= set(frames) and np.array_equal(chosen, np.unique(chosen))
    shuffled = rng.permutation(count)
    other_scale = np.exp(3 * scores[shuffled]) - 50
    again = choose_frames(frames[shuffled], other_scale, doubt[shuffled], **limits)
    assert np.array_equal(chosen, again)


@pytest.mark.parametrize(
    "bad",
    [{"passes_per_frame": 0}, {"budget_passes": -1}, {"doubt": np.array([-1.0])},
     {"doubt": np.zeros(2)}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(bad):
    given_ = {"passes_per_frame": 1, "budget_passes": 1, **bad}
    with pytest.raises(HemError, match="choosing frames"):
        choose_frames(np.array([0]), np.array([0.5]), **given_)


def test_answers_end_where_the_frame_does():
    frame = random_frame()

    def detect(frames):  # "shift" moves the picture: what reaches its border reached out of the frame
        return [detections([[0.0, 0, 100, 60]], [0.9]) for _ in frames]

    _, _, places = elicit(frame, np.array([[0.0, 0, 90, 50]]), np.array([1]), detect, ["shift", "shift_back"])
    there = places[~np.isnan(places).any(axis=2)]
    assert len(there) and (there >= 0).all() and (there <= [100, 60, 100, 60]).all()


def test_scores_below_zero_are_refused_with_variants(make_clip):
    clip = make_clip(0)

    def detect(frames):
        return [Detections.empty() for _ in frames]

    asked = {"detect": detect, "elicit": elicit, "score_range": (-1.0, 1.0)}
    with pytest.raises(HemError, match="scores from -1"):
        collect_evidence(clip.batches(), settings=CollectSettings(variants=("noise",)), **asked)
    assert collect_evidence(clip.batches(), settings=CollectSettings(), **asked).elicit_calls == 0


def test_only_variants_that_were_run_are_counted(make_clip):
    clip, calls = make_clip(0), []

    def detect(frames):
        calls.append(len(frames))
        found = detections([[2.0, 2, 30, 40]], [0.9])  # top left: other corners do not show it
        return [Detections(found.boxes_xyxy, found.scores, found.labels) for _ in frames]

    settings = CollectSettings(variants=("zoom_bottom_right", "noise"), elicit_share=0.5)
    evidence = collect_evidence(clip.batches(), detect=detect, elicit=elicit, settings=settings)
    assert evidence.elicit_calls == sum(calls) - len(clip.frames) > 0
    assert set(evidence.responses.variant.tolist()) == {1}
