"""What is remarked on after mining: boxes that fit another size of the video."""

from dataclasses import replace

import numpy as np
import pytest

from hem.mining.presets import Elicited, Hem, Paper, Temporal
from hem.seen import Seen, remarks_on, size_doubt
from hem.structures import VideoDetections, VideoInfo
from hem.structures.evidence import CollectSettings, Evidence

SIZE = (640, 360)


def found(boxes, name="a.mp4", size=SIZE):
    count = len(boxes)
    return VideoDetections(
        video=VideoInfo(name, width=size[0], height=size[1]),
        frame_index=np.zeros(count, dtype=np.int64),
        boxes_xyxy=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        scores=np.full(count, 0.5),
        labels=np.ones(count, dtype=np.int64),
        frame_times_s=np.zeros(1),
    )


def spread(count, size, seed=0):
    corners = np.random.default_rng(seed).uniform((0, 0), (size[0] - 40, size[1] - 40), (count, 2))
    return np.concatenate([corners, corners + 40], axis=1)


@pytest.mark.parametrize(
    ("boxes", "given", "said"),
    [
        (spread(300, SIZE), True, ""),
        (spread(300, (2 * SIZE[0], 2 * SIZE[1])), True, "boxes lie wholly outside its pictures of 640 x 360"),
        (spread(300, (2 * SIZE[0], 2 * SIZE[1])), False, "boxes lie wholly outside"),
        (spread(300, (SIZE[0] // 2, SIZE[1] // 2)), True, "all of its 300 boxes end within"),
        (spread(300, (SIZE[0] // 2, SIZE[1] // 2)), False, ""),  # a detector was shown the video as it is
        (spread(100, (SIZE[0] // 2, SIZE[1] // 2)), True, ""),  # too few to tell
        (spread(300, (SIZE[0] // 2, SIZE[1])), True, ""),  # on one side only
        ([[-30, 5, 0, 25], [1, 1, 9, 9]], True, "1 of its 2 boxes"),
        ([[640, 5, 650, 25], [1, 1, 9, 9]], True, "1 of its 2 boxes"),
        ([[-30, 5, 1, 25], [639, 350, 700, 400]], True, ""),  # cut by the border
        ([[5, -9, 25, 0]], True, "1 of its 1 boxes"),
        ([[5, 360, 25, 370]], True, "1 of its 1 boxes"),
        ([], True, ""),
    ],
)
def test_boxes_of_another_size_of_the_video(boxes, given, said):
    doubt = size_doubt(found(boxes), given=given)
    assert said in doubt and bool(doubt) is bool(said)


def test_a_few_boxes_outside_are_nothing_to_speak_of():
    one = spread(300, SIZE)
    one[:3] += 1000
    assert size_doubt(found(one), given=True) == ""
    one[:4] += 1000
    assert size_doubt(found(one), given=True) != ""


def test_a_video_of_unknown_size_raises_no_doubt():
    assert size_doubt(found([[-30, 5, 0, 25]], size=(0, 0)), given=True) == ""


def seen(detections):
    flags = np.zeros(detections.n_frames, dtype=np.bool_)
    return Seen.of(Evidence(detections, flags, flags, CollectSettings()), Paper())


def test_one_remark_for_all_videos():
    far = [[2000, 2000, 2040, 2040]]
    fine, two = seen(found(spread(5, SIZE))), [seen(found(far, name)) for name in ("b.mp4", "c.mp4")]
    assert remarks_on(Paper(), [fine]) == []
    (remark,) = remarks_on(Paper(), [fine, *two])
    assert remark.startswith("b.mp4: 1 of its 1 boxes") and "and so in 1 more videos" in remark
    (alone,) = remarks_on(Paper(), two[:1])
    assert "more videos" not in alone and "another size?" in alone


@pytest.mark.parametrize(
    ("names", "highest", "said"),
    [((), 9, False), (("person", "car"), 2, False), (("person", "car"), 3, True), (tuple("abcdef"), 7, True)],
)
def test_a_label_beyond_the_names_is_remarked_on(names, highest, said):
    one = replace(found(spread(3, SIZE)), labels=np.array([1, highest, 1]), class_names=names)
    remarks = remarks_on(Paper(), [seen(one)])
    expected = f"a.mp4: label {highest} has no name among class_names (1 is {names[0] if names else ''}, "
    assert len(remarks) == said and all(remark.startswith(expected) for remark in remarks)


def test_boxes_without_width_or_height_are_counted():
    fine = found(spread(3, SIZE), "a.mp4")
    flat = [found([[5, 5, 5, 30], [5, 5, 30, 5], [5, 5, 30, 30]], name) for name in ("b.mp4", "c.mp4")]
    assert remarks_on(Paper(), [seen(fine)]) == []
    (remark,) = remarks_on(Paper(), [seen(one) for one in (fine, flat[0])])
    assert remark.startswith("2 detections in b.mp4 have no width or no height")
    (remark,) = remarks_on(Paper(), [seen(one) for one in (fine, *flat)])
    assert remark.startswith("4 detections in b.mp4 and 1 more videos have")


@pytest.mark.parametrize(
    ("variants", "calls", "said"), [(("noise",), 0, True), (("noise",), 3, False), ((), 0, False)]
)
def test_videos_that_are_not_disturbed_are_remarked_on(variants, calls, said):
    one = found(spread(3, SIZE))
    flags = np.zeros(one.n_frames, dtype=np.bool_)
    evidence = Evidence(one, flags, flags, CollectSettings(variants=variants), elicit_calls=calls)
    for preset in (Hem(), Elicited()):
        remarks = remarks_on(preset, [Seen.of(evidence, preset)])
        assert len(remarks) == said and all("in 1 of 1 videos (first a.mp4)" in one for one in remarks)
    assert remarks_on(Temporal(), [Seen.of(evidence, Temporal())]) == []
