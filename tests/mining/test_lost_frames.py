"""Frames that cannot be decoded: nothing is mined there, nothing counts there, and the rest goes on."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from hem.api import mine_videos
from hem.config import VideoConfig
from hem.detectors.wrapped import WrappedDetector
from hem.errors import HemError
from hem.mining.collect import collect_evidence
from hem.mining.index import index_of
from hem.mining.paper import PaperJudge, PaperThresholds, query_paper
from hem.mining.presets import Hem, Paper, PseudoLabels, Random, Score, Temporal
from hem.mining.run import MiningPreset, scale_of
from hem.mining.thresholds import TemporalThresholds
from hem.structures import Kind, VideoDetections, VideoInfo
from hem.structures.evidence import CollectSettings, Evidence
from hem.structures.video import FrameGap
from hem.video.manifest import scan_videos
from hem.video.writer import write_video

PAPER = Paper(score_threshold=0.5, window=3, search_margin=20.0, min_area=100.0, border_margin=2.0)
ALL = (float("-inf"), float("inf"))
GIVEN = CollectSettings(
    floor_score=float("-inf"), score_threshold=ALL, neighbour_threshold=ALL, search_margin=20.0,
    paper_score_threshold=(0.5, 0.5), paper_min_area=100.0, paper_border_margin=2.0,
)  # fmt: skip


def evidence_of(readable, n_frames=40):
    """Three detections a frame (0.5, 0.6, 0.7), frames beyond the readable ones lost."""
    frame = np.repeat(np.arange(n_frames), 3)
    left = 10.0 + 40.0 * np.tile(np.arange(3), n_frames)
    times = np.arange(n_frames) / 10.0
    times[readable:] = np.nan
    found = VideoDetections(
        VideoInfo("v.mp4", digest="ab" * 32, width=160, height=120, fps=10.0),
        frame,
        np.stack([left, np.full_like(left, 20), left + 30, np.full_like(left, 60)], axis=1),
        np.tile([0.5, 0.6, 0.7], n_frames),
        np.ones(len(frame)),
        times,
        gaps=(FrameGap(readable, None, "lost"),),
    )
    return Evidence(found, np.zeros(n_frames), np.zeros(n_frames), GIVEN)


@pytest.mark.parametrize(
    "preset",
    [
        PseudoLabels(score_scale="raw", score_threshold=0.6),
        Score(score_scale="raw", score_threshold=0.65, low_score=0.2),
        Random(score_scale="raw"),
    ],
    ids=lambda preset: type(preset).__name__,
)
def test_baselines_leave_lost_frames_out(preset):
    frames = {example.frame_index for example in preset.mine([evidence_of(10)])}
    assert frames == set(range(10))


def test_scores_of_lost_frames_are_not_counted():
    preset = MiningPreset("temporal", TemporalThresholds(), "quantile", 3.0)
    whole, cut_short = scale_of([evidence_of(10)], preset), scale_of([evidence_of(10, n_frames=10)], preset)
    for setting in (0.0, 0.3, 0.5, 0.8):
        assert whole.threshold(setting) == cut_short.threshold(setting)


def clip_with(tmp_path, name, n_frames=30):
    rng = np.random.default_rng(len(name))
    coarse = np.kron(rng.integers(0, 200, (16, 20, 3)), np.ones((8, 8, 1), dtype=np.int64))
    noisy = (coarse + rng.integers(0, 40, coarse.shape) for _ in range(n_frames))
    write_video(tmp_path / "videos" / name, (one.astype(np.uint8) for one in noisy), fps=10)
    lone = (
        ["frame.jpg", "0"] * 12 + ["frame.jpg", "1", "40 40 50 40 0.9"] + ["frame.jpg", "0"] * (n_frames - 13)
    )
    (tmp_path / "found").mkdir(exist_ok=True)
    (tmp_path / "found" / f"{name}.txt").write_text("\n".join(lone) + "\n")


@pytest.fixture
def half_lost(tmp_path):
    """Two videos, of which the first was damaged after it was looked at: not one of its frames decodes."""
    (tmp_path / "videos").mkdir()
    clip_with(tmp_path, "a.mp4")
    clip_with(tmp_path, "bb.mp4")
    videos = scan_videos(tmp_path / "videos").videos
    path = tmp_path / "videos" / "a.mp4"
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    end = data.index(b"moov") - 4 if data.index(b"moov") > start else len(data)
    data[start:end] = bytes(end - start)
    path.write_bytes(bytes(data))
    return tmp_path, videos


def network(pictures):
    found = {
        "boxes": torch.tensor([[40.0, 40, 90, 80]]),
        "scores": torch.tensor([0.9]),
        "labels": torch.tensor([1]),
    }
    return [found for _ in pictures]


@pytest.mark.parametrize("route", ["paper", "given", "detector"])
def test_a_video_without_a_frame_is_a_gap_and_the_others_are_mined(half_lost, route):
    folder, videos = half_lost
    given = {"detections": folder / "found"}
    if route == "detector":
        given = {"detector": WrappedDetector(network, class_names=("thing",), name="one")}
    preset = (
        PAPER if route == "paper" else Temporal(score_scale="raw", score_threshold=0.5, label_threshold=0.6)
    )
    result = mine_videos(videos, preset, output_dir=folder / "out", video=VideoConfig(), **given)
    lost, whole = result.rows
    assert (lost["video"], whole["video"]) == ("a.mp4", "bb.mp4")
    assert lost["gaps"] and not whole["gaps"] and whole["frames"] == 30
    assert all(not lost[kind.value] for kind in Kind)
    assert result.examples and {example.video_id for example in result.examples} == {"bb.mp4"}
    again = mine_videos(videos, preset, output_dir=folder / "out", video=VideoConfig(), **given)
    assert again.rows == result.rows


def test_videos_without_any_frame_are_an_error(half_lost):
    folder, videos = half_lost
    detector = WrappedDetector(network, class_names=("thing",), name="one")
    for given in ({"detector": detector}, {"detections": folder / "found"}):
        for preset in (Hem(), PAPER):
            shutil.rmtree(folder / "out", ignore_errors=True)
            with pytest.raises(HemError, match=r"not one frame could be decoded from 1 videos \(a.mp4"):
                mine_videos(videos[:1], preset, output_dir=folder / "out", **given)


def test_paper_says_nothing_of_a_frame_that_cannot_be_decoded(half_lost):
    """A lone detection needs no picture to be isolated, but one to be taught."""
    folder, videos = half_lost
    one = mine_videos(videos[1:], PAPER, detections=folder / "found", output_dir=folder / "one")
    assert [(e.frame_index, e.kind) for e in one.examples] == [(12, Kind.HARD_NEGATIVE)]
    whole = one.evidence[0].detections
    for frames, expected in ((range(30), [12]), ([t for t in range(30) if t != 12], [])):
        lost = np.array([t not in frames for t in range(30)])
        found = replace(whole, frame_times_s=np.where(lost, np.nan, whole.frame_times_s))
        evidence = Evidence(found, np.zeros(30), np.zeros(30), GIVEN)
        assert PaperJudge(found, PAPER.thresholds).work.undecided.tolist() == [0]
        assert (
            query_paper(evidence, PaperThresholds(**vars(PAPER.thresholds))).frame_index.tolist() == expected
        )


def test_a_video_without_a_frame_needs_to_be_known():
    with pytest.raises(HemError, match="no frame could be decoded"):
        collect_evidence(iter(()), None, lambda _: [], CollectSettings())


def test_no_rank_depends_on_what_lies_in_lost_frames():
    whole, cut_short = index_of(evidence_of(10)), index_of(evidence_of(10, n_frames=10))
    assert (whole.rank[:30] == cut_short.rank).all() and set(cut_short.rank) == {1 / 3, 2 / 3, 1}
    few = evidence_of(10)
    few = replace(
        few,
        detections=replace(few.detections, scores=np.where(np.arange(120) < 30, few.detections.scores, 0.65)),
    )
    assert (index_of(few).rank[:30] == cut_short.rank).all()
