"""Values carried between all stages, checked when they are built."""

from hem.structures.detections import Detections, VideoDetections
from hem.structures.examples import HardExample, Kind
from hem.structures.grey import GreyBatch, GreyPicture
from hem.structures.rulings import Answer, Drop, Place, Rulings, Verdict
from hem.structures.target import Batch, ImageSource, LabelledImage, Target
from hem.structures.truth import VideoTruth
from hem.structures.video import FrameBatch, FrameGap, VideoInfo, VideoReport

__all__ = [
    "Answer",
    "Batch",
    "Detections",
    "Drop",
    "FrameBatch",
    "FrameGap",
    "GreyBatch",
    "GreyPicture",
    "HardExample",
    "ImageSource",
    "Kind",
    "LabelledImage",
    "Place",
    "Rulings",
    "Target",
    "Verdict",
    "VideoDetections",
    "VideoInfo",
    "VideoReport",
    "VideoTruth",
]
