"""What a pass keeps of a detector's answers."""

import numpy as np
import torch

from hem.mining.collect import collect_evidence
from hem.structures import Detections, FrameBatch, VideoInfo
from hem.structures.evidence import CollectSettings

FRAMES = 4


def test_answers_are_kept_when_the_detector_writes_to_its_memory_again():
    room = torch.zeros(50, 4, dtype=torch.float64)  # of which an answer is a small part

    def detect(frames):
        answers = []
        for frame in frames:
            room[:2] = torch.tensor([[0.0, 0.0, 4.0, 4.0], [2.0, 2.0, 9.0, 9.0]]) + frame[0, 0, 0].item()
            answers.append(Detections(room[:2], torch.tensor([0.9, 0.2]), torch.ones(2, dtype=torch.int64)))
        return answers

    def batches():
        for index in range(FRAMES):
            frame = torch.full((1, 3, 24, 32), index, dtype=torch.uint8)
            times_s = torch.tensor([index / 10.0], dtype=torch.float64)
            yield FrameBatch(VideoInfo("a.mp4", fps=10.0), frame, torch.tensor([index]), times_s)

    for floor, kept in ((0.1, 2), (0.5, 1)):
        found = collect_evidence(
            batches(), detect=detect, settings=CollectSettings(floor_score=floor)
        ).detections
        assert found.frame_index.tolist() == np.repeat(range(FRAMES), kept).tolist()
        np.testing.assert_array_equal(found.boxes_xyxy[::kept, 0], range(FRAMES))
        np.testing.assert_array_equal(found.scores[::kept], np.full(FRAMES, 0.9, dtype=np.float32))
