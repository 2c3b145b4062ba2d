"""Damaged files: what is sound is delivered with its true number, the rest is a gap."""

from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from hem.errors import HemError
from hem.structures import VideoInfo, VideoReport
from hem.video.manifest import probe
from hem.video.pyav_source import PyavReader
from hem.video.reader import RawFrame, Selection, TimeKeeper
from hem.video.source import open_source

MakeVideo = Callable[..., Path]
FramesOf = Callable[..., tuple[dict[int, np.ndarray], VideoReport, dict[int, float]]]
Places = Callable[[Path], list[tuple[int, int, bool]]]

SETTINGS = [
    pytest.param({"decoder": "pyav"}, id="pyav"),
    pytest.param({"decoder": "pyav", "threads": 1, "batch_size": 3}, id="pyav-1"),
    pytest.param(
        {"decoder": "decord"},
        id="decord",
        marks=pytest.mark.skipif(find_spec("decord") is None, reason="decord is not installed here"),
    ),
]


def damaged(path: Path, start: int, count: int) -> Path:
    data = bytearray(path.read_bytes())
    for place in range(start, start + count):
        data[place] ^= 0x5A
    broken = path.with_name(f"broken_{path.name}")
    broken.write_bytes(bytes(data))
    return broken


@pytest.mark.parametrize("packet", [11, 13])  # 11: refused before the key frame 10 comes out
@pytest.mark.parametrize("settings", SETTINGS)
def test_mid_file_corruption_is_a_gap_up_to_the_next_key_frame(
    frames_of: FramesOf,
    make_video: MakeVideo,
    packet_places: Places,
    settings: dict[str, object],
    packet: int,
) -> None:
    path = make_video(n=40, gop=10, height=96, width=128)
    places = packet_places(path)
    assert [k for k, place in enumerate(places) if place[2]] == [0, 10, 20, 30]
    offset, size, _ = places[packet]
    sound, _, sound_times = frames_of(path, threads=1)
    found, report, times = frames_of(damaged(path, offset, size), **settings)
    assert [gap.end_frame for gap in report.gaps] == [20]
    first = report.gaps[0].first_frame
    assert 7 <= first <= 14
    assert set(found) == set(range(first)) | set(range(20, 40))
    assert all((found[k] == sound[k]).all() and times[k] == sound_times[k] for k in found)
    assert report.video.n_frames == 40 and report.error is None


def test_damage_inside_a_slice_never_gives_wrong_pixels(
    frames_of: FramesOf, make_video: MakeVideo, packet_places: Places
) -> None:
    """A few wrong bytes in the picture data decode to garbage that looks like a frame."""
    path = make_video(n=40, gop=10, height=96, width=128)
    sound, _, _ = frames_of(path, threads=1)
    for packet in (2, 15, 31, 39):
        offset, size, _ = packet_places(path)[packet]
        broken = damaged(path, offset + size // 2, max(4, size // 4))
        found, report, _ = frames_of(broken)
        again, report_again, _ = frames_of(broken, threads=1, batch_size=1, prefetch=0)
        assert set(found) == set(again) and report.gaps == report_again.gaps
        assert len(found) >= 29 and report.video.n_frames == 40
        wrong = [k for k in found if (found[k] != sound[k]).any()]
        assert not wrong or not report.gaps  # seen damage never lets a wrong frame through
        lost = {k for gap in report.gaps for k in range(gap.first_frame, gap.end_frame or 40)}
        assert lost == set(range(40)) - set(found)


@pytest.mark.parametrize("threads", [1, 2])
def test_pictures_built_on_a_corrupt_one_that_is_shown_later_are_lost_too(
    frames_of: FramesOf, make_video: MakeVideo, packet_places: Places, threads: int
) -> None:
    path = make_video(n=40, gop=20, height=96, width=128)
    sound, _, _ = frames_of(path, threads=1)
    places, seen = packet_places(path), 0
    for packet in range(20, 40):
        offset, size, _ = places[packet]
        for share in (2, 3):
            found, report, _ = frames_of(damaged(path, offset + size // share, size // 4), threads=threads)
            if [gap.reason for gap in report.gaps] != ["decoder: frame marked corrupt"]:
                continue
            seen += 1
            assert [k for k in found if (found[k] != sound[k]).any()] == []
            gap = report.gaps[0]
            assert set(found) == set(range(40)) - set(range(gap.first_frame, gap.end_frame or 0))
    assert seen


def test_the_end_frame_changes_nothing_before_it(
    frames_of: FramesOf, make_video: MakeVideo, packet_places: Places
) -> None:
    """Frames shown before a corrupt one and built on it are lost even if reading ends with them."""
    path = make_video(n=40, gop=20, height=96, width=128)
    for packet in (22, 29):
        offset, size, _ = packet_places(path)[packet]
        for share in (2, 3):
            broken = damaged(path, offset + size // share, size // 4)
            whole = frames_of(broken)[0]
            for end in range(20, 34):
                assert set(frames_of(broken, end_frame=end)[0]) == {k for k in whole if k < end}


@pytest.mark.parametrize("settings", SETTINGS)
def test_truncated_file_with_a_header_that_claims_more(
    frames_of: FramesOf,
    make_video: MakeVideo,
    front_header: Callable[[Path], Path],
    packet_places: Places,
    settings: dict[str, object],
) -> None:
    path = front_header(make_video(n=40, gop=10))
    sound, _, _ = frames_of(path, threads=1)
    cut = path.with_name("cut.mp4")
    cut.write_bytes(path.read_bytes()[: packet_places(path)[25][0] + 5])
    found, report, _ = frames_of(cut, **settings)
    assert 18 <= len(found) <= 26 and sorted(found) == list(range(len(found)))
    assert all((found[k] == sound[k]).all() for k in found)
    assert report.error is not None and "cut.mp4" in report.error and "claims 40 frames" in report.error
    assert report.gaps[-1].end_frame is None and report.gaps[-1].first_frame >= len(found)


def test_truncated_webm_whose_tracks_have_no_duration_of_their_own(
    frames_of: FramesOf, make_video: MakeVideo
) -> None:
    """Only the whole file's duration is left, or none."""
    data = make_video("a.webm", n=40, gop=10, codec="libvpx").read_bytes()
    data = data.replace(b"DURATION", b"OTHERTAG")
    cut = make_video("cut.webm", n=2, codec="libvpx")
    cut.write_bytes(data[: len(data) // 2])
    assert "although its header says 1.60 s" in str(frames_of(cut)[1].error)
    cut.write_bytes(data[: len(data) // 2].replace(b"\x44\x89\x88", b"\x45\x89\x88"))  # an unknown element
    found, report, _ = frames_of(cut, threads=1)
    assert 5 < len(found) < 40 and report.gaps[-1].first_frame == len(found)
    assert "before it is whole" in str(report.error)


@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.mp4", "a.avi", "a.ts"])
@pytest.mark.parametrize("times", ["even", "uneven"])
def test_a_whole_file_has_no_gap(
    frames_of: FramesOf, make_video: MakeVideo, tmp_path: Path, name: str, times: str
) -> None:
    times_s = np.cumsum(np.random.default_rng(3).uniform(0.01, 0.6, 40)).tolist()
    settings = {"times_s": times_s} if times == "uneven" and name != "a.avi" else {}
    codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
    if name == "a.ts":
        path = _remuxed(make_video("a.mp4", n=40, **settings), tmp_path / name)
    else:
        path = make_video(name, n=40, codec=codec, **settings)
    found, report, _ = frames_of(path)
    assert len(found) == 40 and not report.gaps and report.error is None


def test_a_sound_track_longer_than_the_picture_is_no_damage(
    frames_of: FramesOf, make_video: MakeVideo, tmp_path: Path
) -> None:
    path = _remuxed(make_video("a.mp4", n=40), tmp_path / "long.mkv", sound_s=8)
    found, report, _ = frames_of(path)
    assert len(found) == 40 and not report.gaps and report.error is None
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(path.read_bytes()[:-60])  # the index and sound alone
    assert frames_of(cut)[1].error is None
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    found, report, _ = frames_of(cut)
    assert len(found) < 40 and report.gaps[-1].first_frame == len(found)
    assert "although its header says 1.60 s" in str(report.error)


def test_a_live_stream_does_not_say_where_it_ends(
    frames_of: FramesOf, make_video: MakeVideo, tmp_path: Path
) -> None:
    path = _remuxed(make_video("a.mp4", n=40), tmp_path / "live.mkv", options={"live": "1"})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    found, report, _ = frames_of(path)
    assert 10 <= len(found) < 40 and not report.gaps and report.error is None


def _remuxed(source: Path, path: Path, sound_s: int = 0, options: dict[str, str] | None = None) -> Path:
    """Copy the picture into another container, with a sound track of so many seconds beside it."""
    with av.open(str(source)) as given, av.open(str(path), "w", options=options or {}) as made:
        stream = made.add_stream_from_template(given.streams.video[0])
        sound = made.add_stream("aac", rate=16000) if sound_s else None
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                made.mux(packet)
        for start in range(0, sound_s * 16000, 1024) if sound else ():
            frame = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono"
            )
            frame.sample_rate, frame.pts = 16000, start
            made.mux(sound.encode(frame))
        if sound:
            made.mux(sound.encode(None))
    return path


def _unreadable(tmp_path: Path, kind: str, sound_only: Path, whole: Path) -> Path:
    path = tmp_path / f"{kind}.mp4"
    content = {
        "empty": b"",
        "text": b"this is not a video\n" * 100,
        "header cut off": whole.read_bytes()[: whole.stat().st_size // 2],
        "sound": sound_only.read_bytes(),
    }
    path.write_bytes(content[kind])
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("empty", "is empty"),
        ("text", "cannot be opened"),
        ("header cut off", "cannot be opened"),
        ("sound", "no video stream"),
    ],
)
def test_what_is_no_video_is_an_error_that_names_it(
    tmp_path: Path, make_video: MakeVideo, sound_only: Path, kind: str, reason: str
) -> None:
    path = _unreadable(tmp_path, kind, sound_only, make_video(n=5))
    with pytest.raises(HemError, match=reason) as caught:
        probe(path)
    assert path.name in str(caught.value)
    with pytest.raises(HemError, match=reason):
        open_source(VideoInfo("v", path=str(path)))


def test_zero_frames(frames_of: FramesOf, make_video: MakeVideo, packet_places: Places) -> None:
    path = make_video(n=3)
    data = bytearray(path.read_bytes())
    for offset, size, _ in packet_places(path):
        data[offset : offset + size] = bytes(size)
    path.write_bytes(bytes(data))
    with pytest.raises(HemError, match="no frame decodes"):
        probe(path)
    found, report, _ = frames_of(path)
    assert not found and report.gaps and report.gaps[0].first_frame == 0


def test_a_change_of_size_is_scaled_and_noted(tmp_path: Path, make_video: MakeVideo) -> None:
    joined = tmp_path / "joined.h264"
    with joined.open("wb") as stream:
        for width in (64, 96):
            stream.write(_raw_h264(make_video(f"{width}.mp4", n=4, width=width)))
    with open_source(VideoInfo("j", path=str(joined))) as source:
        frames = [frame for batch in source for frame in batch.frames]
    assert len(frames) == 8 and {tuple(frame.shape) for frame in frames} == {(3, 48, 64)}
    assert any("frame size changes at frame 4" in note for note in source.notes)


def _raw_h264(path: Path) -> bytes:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        to_raw = av.bitstream.BitStreamFilterContext("h264_mp4toannexb", stream)
        packets = [made for packet in container.demux(stream) for made in to_raw.filter(packet)]
        return b"".join(bytes(packet) for packet in packets)


def test_times_are_repaired_and_noted() -> None:
    keeper = TimeKeeper(fps=10)
    raw = [5.0, 5.1, 5.1, 5.2, 1.0, 1.1, float("nan"), 1.35]
    times = [keeper.time(k, t) for k, t in enumerate(raw)]
    assert times == pytest.approx([0.0, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.65])
    assert all(b > a for a, b in pairwise(times))
    assert len(keeper.notes) == 3


@pytest.mark.parametrize(("step_back", "restarted"), [(1.0, False), (1.001, True)])
def test_a_clock_restarts_beyond_one_second(step_back: float, restarted: bool) -> None:
    keeper = TimeKeeper(fps=10)
    keeper.time(0, 0.0)
    keeper.time(1, 8.0)
    joined = keeper.time(2, 8.0 - step_back)
    assert any("restarts" in note for note in keeper.notes) is restarted
    assert joined == pytest.approx(8.1 if restarted else 8.05)


def test_frames_before_the_start_are_not_converted(make_video: MakeVideo) -> None:
    reader = PyavReader(str(make_video(n=6)), 0.0, Selection(start_frame=4))
    frames: list[RawFrame] = list(reader.frames())
    reader.close()
    assert [frame.pixels is None for frame in frames] == [True] * 4 + [False] * 2


@pytest.mark.skipif(find_spec("decord") is None, reason="decord is not installed here")
def test_where_decord_stops_is_not_where_the_gap_begins(
    frames_of: FramesOf, make_video: MakeVideo, packet_places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that it failed some frames behind the damage, now at this one and now at that."""
    from hem.video import decord_source

    path = make_video(n=60, gop=20, height=96, width=128)
    offset, size, _ = packet_places(path)[31]
    broken = damaged(path, offset + 6, size // 2)
    expected = frames_of(broken, decoder="pyav", threads=1)[1].gaps
    assert expected
    real = decord_source._module().VideoReader
    for late in (0, 1, 3):

        class Late:
            def __init__(self, *args: object, late: int = late, **settings: object) -> None:
                self.video, self.left = real(str(path)), expected[0].first_frame + 2 + late

            def __len__(self) -> int:
                return len(self.video)

            def next(self) -> object:
                self.left -= 1
                if not self.left:
                    raise RuntimeError("damage")
                return self.video.next()

        monkeypatch.setattr(
            decord_source, "_module", lambda late=Late: type("Module", (), {"VideoReader": late})
        )
        found, report, _ = frames_of(broken, decoder="decord", guard="never")
        monkeypatch.undo()
        assert report.gaps == expected
        assert sorted(found) == sorted(frames_of(broken, decoder="pyav", threads=1)[0])
