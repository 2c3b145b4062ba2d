import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hem.errors import HemError
from hem.structures import (
    Detections,
    FrameBatch,
    HardExample,
    Kind,
    LabelledImage,
    Target,
    VideoDetections,
    VideoInfo,
)

BOX = [[10.0, 10.0, 30.0, 40.0]]


def example(**changes: object) -> HardExample:
    values: dict[str, object] = {
        "video_id": "a.mp4", "video_digest": "d" * 64, "frame_index": 3, "time_s": 0.1,
        "box_xyxy": (1.0, 2.0, 3.0, 4.0), "label": 1, "kind": Kind.HARD_NEGATIVE,
        "score": 0.9, "weight": 1.0, "rule": "paper",
    }  # fmt: skip
    return HardExample(**{**values, **changes})  # type: ignore[arg-type]


class TestDetections:
    def test_scores_compare_in_float64(self) -> None:
        found = Detections(torch.tensor(BOX), torch.tensor([0.7], dtype=torch.float64), torch.tensor([1]))
        assert len(found.above(0.7)) == 1
        assert len(found.above(np.nextafter(0.7, 1))) == 0

    def test_empty_keeps_its_place(self) -> None:
        found = Detections.empty(7, 0.5, "v")
        assert len(found) == 0
        assert (found.frame_index, found.time_s, found.video_id) == (7, 0.5, "v")
        assert found.boxes_xyxy.shape == (0, 4)

    @pytest.mark.parametrize(
        ("boxes", "scores", "labels", "message"),
        [
            ([[0, 0, 1]], [1], [1], "shape"),
            ([[0, 0, 1, 1]], [1, 2], [1], "one length"),
            ([[5, 0, 1, 1]], [1], [1], "left <= right"),
            ([[0, 0, 1, 1]], [1], [0], "count from 1"),
            ([[0, 0, 1, 1]], [float("nan")], [1], "not finite"),
            ([[0, 0, float("inf"), 1]], [1], [1], "not finite"),
        ],
    )
    def test_bad_input_names_the_frame(self, boxes, scores, labels, message) -> None:
        with pytest.raises(HemError, match=message) as caught:
            Detections(np.array(boxes), np.array(scores), np.array(labels), 12, 0.0, "clip.mp4")
        assert "clip.mp4 frame 12" in str(caught.value)


class TestVideoDetections:
    def make(self) -> VideoDetections:
        frames = [
            Detections(torch.tensor(BOX * 2), torch.tensor([0.5, 0.9]), torch.tensor([1, 2]), 2),
            Detections(torch.tensor(BOX), torch.tensor([0.3]), torch.tensor([1]), 0),
        ]
        return VideoDetections.from_frames(VideoInfo("v.mp4"), frames, [0.0, 0.1, 0.2, 0.3])

    def test_frames_come_back_sorted_and_empty_ones_are_there(self) -> None:
        video = self.make()
        assert [len(frame) for frame in video] == [1, 0, 2, 0]
        assert video.frame(2).time_s == 0.2

    def test_a_frame_beyond_the_video_is_refused(self) -> None:
        with pytest.raises(HemError, match="4 frames"):
            VideoDetections(VideoInfo("v"), [4], BOX, [1.0], [1], np.zeros(4))  # type: ignore[arg-type]

    def test_unsorted_rows_are_refused(self) -> None:
        with pytest.raises(HemError, match="sorted"):
            VideoDetections(VideoInfo("v"), [1, 0], BOX * 2, [1.0, 1.0], [1, 1], np.zeros(4))  # type: ignore[arg-type]

    def test_frames_that_have_a_time_were_decoded(self) -> None:
        found = VideoDetections(VideoInfo("v"), [0], BOX, [1.0], [1], [0.0, np.nan, 0.2])  # type: ignore[arg-type]
        assert found.decoded.tolist() == [True, False, True]


class TestTarget:
    def test_plain_target_is_fully_labelled(self) -> None:
        target = Target(boxes_xyxy=torch.tensor(BOX), labels=torch.tensor([1]))
        assert target.fully_labelled
        assert target.box_weights.tolist() == [1.0]

    def test_weight_zero_becomes_ignore_before_matching(self) -> None:
        target = Target(
            boxes_xyxy=torch.tensor([[0.0, 0, 9, 9], [20, 20, 40, 40]]),
            labels=torch.tensor([1, 2]),
            weights=torch.tensor([0.0, 0.5]),
            soft_scores=torch.tensor([0.1, 0.9]),
        )
        assert target.labels.tolist() == [2]
        assert target.ignore_xyxy.tolist() == [[0, 0, 9, 9]]
        assert target.soft_scores is not None
        assert target.soft_scores.tolist() == pytest.approx([0.9])

    def negative(self, shift: float, label: int) -> Target:
        moved = torch.tensor([[0.0 + shift, 0, 100 + shift, 100]])
        return Target(
            boxes_xyxy=torch.tensor([[0.0, 0, 100, 100]]),
            labels=torch.tensor([1]),
            negatives_xyxy=moved,
            negative_labels=torch.tensor([label]),
            name="frame 3",
        )

    @pytest.mark.parametrize("label", [0, 1])
    def test_a_region_cannot_be_positive_and_negative(self, label: int) -> None:
        with pytest.raises(HemError, match=r"frame 3.*overlaps positive"):
            self.negative(100 / 3, label)  # IoU is exactly 0.5: at the threshold it is refused

    def test_just_below_the_threshold_or_of_another_class_is_fine(self) -> None:
        assert len(self.negative(33.5, 1).negatives_xyxy) == 1
        assert len(self.negative(0.0, 2).negatives_xyxy) == 1

    def test_negative_of_weight_zero_is_dropped(self) -> None:
        target = Target(negatives_xyxy=torch.tensor(BOX), negative_weights=torch.zeros(1))
        assert target.negatives_xyxy.shape == (0, 4)
        assert target.fully_labelled

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"boxes_xyxy": torch.tensor([[1.0, 1, 1, 5]]), "labels": torch.tensor([1])}, "without width"),
            ({"boxes_xyxy": torch.tensor(BOX), "labels": torch.tensor([0])}, "count from 1"),
            ({"boxes_xyxy": torch.tensor(BOX), "labels": torch.tensor([1, 1])}, "one length"),
            (
                {
                    "boxes_xyxy": torch.tensor(BOX),
                    "labels": torch.tensor([1]),
                    "weights": torch.tensor([-1.0]),
                },
                "weights must be >= 0",
            ),
            (
                {
                    "boxes_xyxy": torch.tensor(BOX),
                    "labels": torch.tensor([1]),
                    "soft_scores": torch.tensor([1.5]),
                },
                r"\[0, 1\]",
            ),
        ],
    )
    def test_bad_targets_are_refused(self, fields, message) -> None:
        with pytest.raises(HemError, match=message):
            Target(**fields)

    def test_moving_keeps_every_part(self) -> None:
        moved = self.negative(60.0, 1).to("cpu")
        assert moved.negative_labels is not None
        assert moved.negative_labels.tolist() == [1]
        assert moved.name == "frame 3"


class TestHardExample:
    def test_id_depends_on_place_not_on_round_or_rule(self) -> None:
        assert example().example_id == example(round=4, rule="hem", weight=0.1).example_id
        assert len(example().example_id) == 16

    @pytest.mark.parametrize(
        "change",
        [
            {"frame_index": 4}, {"label": 2}, {"kind": Kind.IGNORE}, {"video_digest": "e" * 64},
            {"box_xyxy": (1.0, 2.0, 3.0, 4.02)},
        ],
    )  # fmt: skip
    def test_id_changes_with_its_parts(self, change) -> None:
        assert example().example_id != example(**change).example_id

    @given(st.floats(-0.004, 0.004))
    def test_id_is_to_a_hundredth_of_a_pixel_with_one_zero(self, wobble: float) -> None:
        moved = example(box_xyxy=(0.0 + wobble, 2.0, 3.0, 4.0))
        assert moved.example_id == example(box_xyxy=(0.0, 2.0, 3.0, 4.0)).example_id

    @pytest.mark.parametrize(
        "change", [{"box_xyxy": (1, 1, 1, 2)}, {"label": 0}, {"weight": -1.0}, {"frame_index": -1}]
    )
    def test_impossible_examples_are_refused(self, change) -> None:
        with pytest.raises(HemError, match=r"a\.mp4 frame"):
            example(**change)


def test_video_ids_stay_inside_the_root() -> None:
    for bad in ("", "/etc/x", "../x", "a/../../x"):
        with pytest.raises(HemError, match="relative POSIX"):
            VideoInfo(bad)


def test_frames_and_images_must_be_uint8_rgb() -> None:
    with pytest.raises(HemError, match="uint8"):
        FrameBatch(VideoInfo("v"), torch.zeros(1, 3, 4, 4), torch.zeros(1), torch.zeros(1))
    with pytest.raises(HemError, match="as many"):
        FrameBatch(VideoInfo("v"), torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(1), torch.zeros(2))
    with pytest.raises(HemError, match="uint8"):
        LabelledImage(torch.zeros(1, 4, 4, dtype=torch.uint8), Target(), "i")
