"""Replay of mined frames: targets, rounds on disk, the dataset over them and the mixing of batches."""

from hem.replay.dataset import ReplayDataset
from hem.replay.drops import Drop, drop, drop_record, read_drops
from hem.replay.frames import frame_weights, partial_targets
from hem.replay.round import write_round
from hem.replay.sampler import BatchPlan, MixedBatches
from hem.replay.select import Caps
from hem.replay.stored import ReplayFrame, ReplayRound, load_image, load_round, load_rounds

__all__ = [
    "BatchPlan",
    "Caps",
    "Drop",
    "MixedBatches",
    "ReplayDataset",
    "ReplayFrame",
    "ReplayRound",
    "drop",
    "drop_record",
    "frame_weights",
    "load_image",
    "load_round",
    "load_rounds",
    "partial_targets",
    "read_drops",
    "write_round",
]
