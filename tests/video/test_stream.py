"""Streams over many videos, shards, and frames read again."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from hem.config import VideoConfig
from hem.errors import HemError
from hem.structures import FrameGap, VideoInfo
from hem.training.videos import Videos
from hem.video import source
from hem.video.manifest import scan_videos
from hem.video.source import open_source
from hem.video.stream import VideoStream, frames_again, reread_frames, shard_videos

MakeVideo = Callable[..., Path]


def test_videos_in_order_batches_never_mixed(tmp_path: Path, make_video: MakeVideo) -> None:
    for name, n in (("b.mp4", 5), ("a.mp4", 9), ("c.mp4", 1)):
        make_video(f"in/{name}", n=n)
    stream = VideoStream(scan_videos(tmp_path / "in").videos, batch_size=4)
    for _ in range(2):  # reads again from the beginning
        seen = [(batch.video.video_id, batch.frame_indices.tolist()) for batch in stream]
        assert seen == [
            ("a.mp4", [0, 1, 2, 3]),
            ("a.mp4", [4, 5, 6, 7]),
            ("a.mp4", [8]),
            ("b.mp4", [0, 1, 2, 3]),
            ("b.mp4", [4]),
            ("c.mp4", [0]),
        ]
        assert {key: r.video.n_frames for key, r in stream.reports.items()} == {
            "a.mp4": 9,
            "b.mp4": 5,
            "c.mp4": 1,
        }


def test_through_a_loader(make_video: MakeVideo) -> None:
    videos = scan_videos(make_video(n=6)).videos
    loader = DataLoader(VideoStream(videos, batch_size=4), batch_size=None, num_workers=0)
    assert [len(batch) for batch in loader] == [4, 2]
    with pytest.raises(HemError, match="num_workers=0"):
        list(DataLoader(VideoStream(videos), batch_size=None, num_workers=1))


def test_a_lost_video_is_reported_and_the_next_goes_on(tmp_path: Path, make_video: MakeVideo) -> None:
    make_video("in/a.mp4", n=3)
    bad = make_video("in/b.mp4", n=3)
    make_video("in/c.mp4", n=3)
    videos = scan_videos(tmp_path / "in").videos
    bad.write_bytes(b"gone")
    stream = VideoStream(videos, stride=2, max_frames=2)
    assert [(b.video.video_id, b.frame_indices.tolist()) for b in stream] == [("a.mp4", [0]), ("c.mp4", [0])]
    report = stream.reports["b.mp4"]
    assert report.error is not None and str(bad) in report.error
    assert report.gaps == (FrameGap(0, None, report.error),)
    with pytest.raises(HemError, match=r"none of the 1 videos gave a frame.*b\.mp4"):
        list(VideoStream([videos[1]]))
    assert list(VideoStream([])) == []


def test_wrong_settings_come_before_any_reading() -> None:
    with pytest.raises(HemError, match=r"video\.decoder"):
        VideoStream([], decoder="vlc")  # type: ignore[arg-type]


def test_shards_hold_each_video_once_and_balance(tmp_path: Path) -> None:
    videos = [VideoInfo(f"{k}.mp4", width=10, height=10, n_frames=n) for k, n in enumerate([9, 1, 5, 4, 3])]
    shards = [shard_videos(videos, rank, 2) for rank in range(2)]
    assert [[v.video_id for v in shard] for shard in shards] == [
        ["0.mp4", "4.mp4"],
        ["1.mp4", "2.mp4", "3.mp4"],
    ]
    assert shard_videos(videos, 0, 1) == videos
    assert sorted(v.video_id for rank in range(9) for v in shard_videos(videos, rank, 9)) == [
        v.video_id for v in videos
    ]
    sized = []
    for k, size in enumerate([10, 30, 20]):
        (tmp_path / f"{k}.mp4").write_bytes(bytes(size))
        sized.append(VideoInfo(f"{k}.mp4", path=str(tmp_path / f"{k}.mp4")))
    assert [v.video_id for v in shard_videos(sized, 0, 2)] == ["1.mp4"]
    with pytest.raises(HemError, match="rank 2"):
        shard_videos(videos, 2, 2)


def test_mined_frames_are_read_again_under_guard(
    make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))

    def here(self: object) -> None:
        raise AssertionError("decoded in this process")

    monkeypatch.setattr("fakes.Sleeps.misbehave", here)
    monkeypatch.setitem(source._CPU_CHAIN, "pyav", ("fakes:SleepsAtOnce",))
    video = VideoInfo("v.mp4", path=str(make_video(n=3)))
    videos = Videos([video], VideoConfig(decoder="pyav", guard="always", stall_s=1.0))
    with pytest.raises(HemError, match=r"frames \[1\] cannot be read again \(.*no frame for 1 s"):
        list(videos.reread(video, [1]))


def test_reread_gives_the_same_pixels(make_video: MakeVideo) -> None:
    video = scan_videos(make_video(n=30)).videos[0]
    with open_source(video, batch_size=7) as opened:
        mined = {
            int(index): batch.frames[row].clone()
            for batch in opened
            for row, index in enumerate(batch.frame_indices)
        }
    again = reread_frames(video, [29, 3, 3, 17, 0])
    assert sorted(again) == [0, 3, 17, 29]
    for index, frame in again.items():
        assert frame.dtype == torch.uint8 and frame.is_contiguous() and torch.equal(frame, mined[index])
    assert reread_frames(video, []) == {}
    with pytest.raises(HemError, match=r"frames \[30\] cannot be read again"):
        reread_frames(video, [2, 30])
    with pytest.raises(HemError, match="start at 0"):
        reread_frames(video, [-1])


def test_frames_are_read_again_where_they_were_decoded(
    make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def opened(
        video: VideoInfo, decoder: str, device: str, *rest: object, **more: object
    ) -> source.FrameSource:
        asked.append((decoder, device))
        return source.open_source(video, "pyav", "cpu", 1, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("hem.video.stream.open_source", opened)
    video = scan_videos(make_video(n=3)).videos[0]
    videos = Videos([video], VideoConfig(decoder="torchcodec", device="cuda"))
    assert [index for index, _ in videos.reread(video, [2, 1])] == [1, 2]
    assert asked == [("torchcodec", "cuda")]


def test_frames_are_read_again_one_by_one_in_one_pass(make_video: MakeVideo) -> None:
    video = scan_videos(make_video(n=30)).videos[0]
    found = frames_again(video, [20, 3, 31])
    assert [next(found)[0], next(found)[0]] == [3, 20]
    with pytest.raises(HemError, match=r"frames \[31\] cannot be read again"):
        next(found)
