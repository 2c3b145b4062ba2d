"""A batch asked about in parts by several threads at once."""

import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hem.detectors.parts import Parts, parts_of
from hem.detectors.wrapped import WrappedDetector
from hem.errors import HemError


@pytest.fixture
def two_threads(tiny):
    """Two threads of torch while a test runs; ``tiny`` sets one, so it comes first."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def ask_parts(ask, groups, threads):
    with Parts(threads) as parts:
        return parts.begin(ask, groups)()


def frames_of(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randint(0, 255, (count, 3, 96, 80), dtype=torch.uint8, generator=generator)


@given(st.lists(st.integers(1, 20), max_size=6), st.integers(1, 40))
def test_parts_hold_every_image_once_and_stay_within_a_group(sizes, threads):
    groups, at = [], 0
    for size in sizes:
        groups.append(list(range(at, at + size)))
        at += size
    parts = parts_of(groups, threads)
    assert [index for part in parts for index in part] == list(range(at))
    for group in groups:
        own = [part for part in parts if part[0] in group]
        assert all(set(part) <= set(group) for part in own)
        assert max(map(len, own)) - min(map(len, own)) <= 1
        assert len(own) == 1 or sum(len(part) < 2 for part in own) <= len(group) % 2
    if threads == 1:
        assert parts == groups


def test_one_group_makes_as_many_parts_as_threads():
    assert [len(part) for part in parts_of([range(8)], 2)] == [4, 4]
    assert [len(part) for part in parts_of([range(8)], 3)] == [2, 3, 3]
    assert [len(part) for part in parts_of([range(8)], 16)] == [2, 2, 2, 2]
    assert [len(part) for part in parts_of([range(3)], 2)] == [1, 2]


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_frames_give_the_same_bits_in_one_thread_and_in_two(tiny, family, two_threads, count):
    """In the order of the images, and whatever the size of the batch."""
    detector = tiny(family).eval()
    frames = frames_of(6)
    found = detector.detect(frames[:count], 0.0)
    torch.set_num_threads(1)
    expected = detector.detect(frames, 0.0)[:count]
    assert sum(map(len, found)) > 0
    for one, same in zip(found, expected, strict=True):
        assert torch.equal(one.boxes_xyxy, same.boxes_xyxy) and torch.equal(one.labels, same.labels)
        assert torch.equal(one.scores, same.scores) and not one.scores.requires_grad


def test_stills_of_several_sizes_come_back_in_their_order(tiny, family, two_threads):
    detector = tiny(family).eval()
    frames, wide = frames_of(5), torch.full((3, 70, 96), 90, dtype=torch.uint8)
    mixed = [frames[0], wide, *frames[1:]]
    found = detector.detect(mixed, 0.0)
    torch.set_num_threads(1)
    for one, same in zip(found, detector.detect(mixed, 0.0), strict=True):
        assert len(one) == len(same)
        torch.testing.assert_close(one.scores, same.scores, rtol=0, atol=1e-5)


def test_parts_are_asked_at_once_with_one_thread_each(two_threads):
    meeting = threading.Barrier(2, timeout=20)

    def ask(part):
        meeting.wait()
        return [(index, torch.get_num_threads(), torch.is_grad_enabled()) for index in part]

    found = ask_parts(ask, [[0, 1, 2, 3]], 2)
    assert found == [([0, 1], [(0, 1, False), (1, 1, False)]), ([2, 3], [(2, 1, False), (3, 1, False)])]
    assert torch.get_num_threads() == 2


def test_fewer_images_than_threads_share_every_layer(two_threads):
    here = threading.current_thread()
    groups = [[0, 1], [2]]
    found = ask_parts(lambda part: [threading.current_thread()] * len(part), groups, 4)
    assert found == [([0, 1], [here] * 2), ([2], [here])]
    assert ask_parts(lambda part: part, [], 2) == []


def test_lower_precision_reaches_every_part(two_threads):
    def ask(part):
        return [(torch.ones(4, 4) @ torch.ones(4, 4)).dtype for _ in part]

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert [kinds for _, kinds in ask_parts(ask, [[0], [1]], 2)] == [[torch.bfloat16]] * 2
    assert [kinds for _, kinds in ask_parts(ask, [[0], [1]], 2)] == [[torch.float32]] * 2


def test_an_error_in_one_part_is_raised_and_the_threads_are_back(tiny, two_threads, monkeypatch):
    detector = tiny("retinanet").eval()
    monkeypatch.setattr(detector, "predict", lambda images: (_ for _ in ()).throw(HemError("no room")))
    with pytest.raises(HemError, match="no room"):
        detector.detect(frames_of(4), 0.0)
    assert torch.get_num_threads() == 2


def test_what_is_wrapped_is_asked_once_from_the_calling_thread(two_threads):
    asked = []

    def detect(images):
        asked.append((len(images), threading.current_thread()))
        return [{"boxes": [[1, 1, 9, 9]], "scores": [0.5]}] * len(images)

    WrappedDetector(detect, class_names=["a"], name="made").detect(frames_of(8), 0.0)
    assert asked == [(8, threading.current_thread())]
    assert torch.get_num_threads() == 2


def test_the_next_batch_is_begun_before_the_last_is_done(two_threads):
    """A thread that is through with its part goes on with the next batch, while the other one works."""
    next_batch = threading.Event()

    def first(part):
        if 3 in part:
            assert next_batch.wait(20)
        return list(part)

    def second(part):
        next_batch.set()
        return [-index for index in part]

    with Parts(2) as parts:
        one = parts.begin(first, [[0, 1, 2, 3]])
        other = parts.begin(second, [[0, 1, 2, 3]])
        assert one() == [([0, 1], [0, 1]), ([2, 3], [2, 3])]
        assert other() == [([0, 1], [0, -1]), ([2, 3], [-2, -3])]
    assert torch.get_num_threads() == 2


def test_a_batch_that_shares_every_layer_waits_for_parts_begun_before(two_threads):
    done = threading.Event()

    def slow(part):
        done.wait(0.2)
        done.set()
        return list(part)

    with Parts(3) as parts:
        early = parts.begin(slow, [[0, 1, 2, 3]])
        few = parts.begin(lambda part: [(done.is_set(), torch.get_num_threads())] * len(part), [[0]])
        assert few() == [([0], [(True, 3)])] and torch.get_num_threads() == 1
        assert len(early()) == 2
    torch.set_num_threads(2)


@pytest.mark.parametrize("threads", [1, 2])
def test_asked_ahead_gives_the_bits_of_one_batch_after_the_other(tiny, family, two_threads, threads):
    torch.set_num_threads(threads)
    detector = tiny(family).train()
    frames = [frames_of(6)[:3], frames_of(6)[3:5], frames_of(6)[5:]]
    expected = [detector.detect(batch, 0.0) for batch in frames]
    with detector.asking(0.0) as ask:
        assert not detector.training and torch.get_num_threads() == 1
        begun = [ask.begin(batch) for batch in frames]
        found = [finish() for finish in begun]
        again = ask(frames[0])
    assert detector.training and torch.get_num_threads() == threads
    for batch, same in zip([*found, again], [*expected, expected[0]], strict=True):
        for one, other in zip(batch, same, strict=True):
            assert torch.equal(one.boxes_xyxy, other.boxes_xyxy) and torch.equal(one.scores, other.scores)
            assert torch.equal(one.labels, other.labels) and not one.scores.requires_grad


def test_a_detect_of_ones_own_is_asked(tiny, two_threads, monkeypatch):
    detector = tiny("retinanet")
    monkeypatch.setattr(detector, "detect", lambda images, floor_score: (len(images), floor_score))
    with detector.asking(0.25) as ask:
        assert ask(frames_of(2)) == (2, 0.25) and not hasattr(ask, "begin")


def test_leaving_early_drops_what_was_begun(tiny, two_threads, monkeypatch):
    detector, asked = tiny("retinanet").eval(), []
    whole = detector.predict
    monkeypatch.setattr(detector, "predict", lambda images: asked.append(len(images)) or whole(images))
    with pytest.raises(KeyboardInterrupt), detector.asking(0.0) as ask:
        for _ in range(20):
            ask.begin(frames_of(4))
        raise KeyboardInterrupt
    assert len(asked) < 20 and torch.get_num_threads() == 2
    with pytest.raises(HemError, match="floor_score"), detector.asking(1.5):
        pass
