"""What one arm mines, round by round."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hem.config import ArmConfig, ReplayConfig
from hem.detectors.protocol import Detector
from hem.mining.score_scale import ScoreScale
from hem.replay.dataset import ReplayDataset
from hem.replay.round import ReplayRound, write_round
from hem.replay.select import Caps
from hem.structures import HardExample, Kind, VideoInfo
from hem.structures.evidence import CollectSettings, Evidence
from hem.training.evidence_pass import run_pass
from hem.training.video_data import VideoData
from hem.video.manifest import about_frames

CACHE_BYTES = 512 << 20  # decoded replay frames kept in RAM; mined frames are few and drawn often


class Preset(Protocol):
    """A mining preset: a pure function of evidence."""

    def mine(
        self, evidence: Sequence[Evidence], *, seed: int = 0, calibrated: ScoreScale | None = None
    ) -> Sequence[HardExample]:
        """Return what the preset finds; the seed matters to random baselines alone."""
        ...


@dataclass
class ArmMining:
    """Mines, writes and opens the rounds of one arm.

    Round 1 queries the evidence all arms share, collected once from the baseline; later rounds run
    the arm's own teacher over the videos again, and calibrate that teacher anew: a retrained
    detector's scores mean something else, and the images held back are still unseen.
    """

    arm: ArmConfig
    preset: Preset
    replay: ReplayConfig
    collect: CollectSettings
    videos: VideoData
    shared_evidence: Sequence[Evidence]
    class_names: tuple[str, ...]
    seed: int
    progress: Any
    calibrated: ScoreScale | None = None
    calibrate: Callable[[Detector], ScoreScale] | None = None

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What the arm replays."""
        return tuple(Kind(kind) for kind in self.arm.kinds)

    def mine(self, teacher: Detector, index: int, path: Path) -> ReplayRound:
        """Collect evidence if this is a later round, query it, and write the round."""
        digest = teacher.digest()
        evidence = self.shared_evidence
        if index > 1:  # of these weights, whatever a killed run left
            evidence = self._collected(teacher, path.parent / f"evidence_{index:03d}_{digest[:16]}")
        scale = self.calibrated
        if scale is not None and index > 1 and self.calibrate is not None:
            scale = self.calibrate(teacher)
        examples = self.preset.mine(evidence, seed=self.seed + index, calibrated=scale)
        by_id = {video.video_id: video for video in self.videos.videos}
        return write_round(
            path,
            index,
            examples,
            [self._read(one, by_id) for one in evidence],
            self.videos.reread,
            self.class_names,
            kinds=self.kinds,
            label_share=self.arm.label_share,
            caps=Caps(
                max_frames=self.replay.max_frames,
                max_per_video=self.replay.max_per_video,
                max_per_track=self.replay.max_per_track,
            ),
            image_format=self.replay.image_format,
            made_by={"model": digest},
        )

    def _collected(self, teacher: Detector, folder: Path) -> Sequence[Evidence]:
        total = about_frames(self.videos.videos)
        return run_pass(
            teacher,
            self.videos,
            self.collect,
            folder,
            lambda done: self.progress("mining", done, total),
        )

    def _read(self, evidence: Evidence, by_id: dict[str, VideoInfo]) -> VideoInfo:
        """Return the video as evidence saw it, at the place where it lies now."""
        seen = evidence.detections.video
        here = by_id[seen.video_id]
        return VideoInfo(
            seen.video_id, seen.digest, here.path, seen.width, seen.height, seen.fps, seen.n_frames
        )

    def open(self, rounds: Sequence[ReplayRound]) -> ReplayDataset:
        """Return the dataset over all rounds so far."""
        return ReplayDataset(
            rounds,
            kinds=self.kinds,
            label_share=self.arm.label_share,
            decay=self.replay.decay,
            video_balance=self.replay.video_balance,
            soft_scores=self.arm.soft or self.replay.soft,
            cache_bytes=CACHE_BYTES,
        )
