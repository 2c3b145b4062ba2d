"""Values carried between all stages, checked when they are built."""

from hem.structures.detections import Detections, VideoDetections
from hem.structures.examples import HardExample, Kind
from hem.structures.target import Batch, LabelledImage, Target
from hem.structures.truth import VideoTruth
from hem.structures.video import FrameBatch, FrameGap, VideoInfo, VideoReport

__all__ = [
    "Batch",
    "Detections",
    "FrameBatch",
    "FrameGap",
    "HardExample",
    "Kind",
    "LabelledImage",
    "Target",
    "VideoDetections",
    "VideoInfo",
    "VideoReport",
    "VideoTruth",
]
