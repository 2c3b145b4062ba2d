"""Files that end too early: what is given is whole and rightly numbered, and the end is a gap."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hem.structures import VideoReport
from hem.video.cut_off import missing_bytes

FramesOf = Callable[..., tuple[dict[int, np.ndarray], VideoReport, dict[int, float]]]
FRAMES = 40
KINDS = {
    "a.mp4": ("libx264", "mp4", {"movflags": "faststart"}),
    "parts.mp4": ("libx264", "mp4", {"movflags": "frag_keyframe+empty_moov"}),
    "a.mov": ("mjpeg", "mov", {"movflags": "faststart"}),
    "a.mkv": ("libx264", "matroska", {}),
    "a.webm": ("libvpx", "webm", {}),
    "a.flv": ("libx264", "flv", {}),
    "a.wmv": ("wmv2", "asf", {}),
    "a.ts": ("libx264", "mpegts", {}),
    "hevc.ts": ("libx265", "mpegts", {}),
    "a.m2ts": ("mpeg2video", "mpegts", {"mpegts_m2ts_mode": "1"}),
    "a.avi": ("mpeg4", "avi", {}),
    "late.avi": ("libx264", "avi", {}),
}


@pytest.fixture(params=KINDS)
def whole(request: pytest.FixtureRequest, tmp_path: Path, encode: Callable[..., Path]) -> Path:
    codec, kind, options = KINDS[request.param]
    texture = np.random.default_rng(5).integers(0, 255, (96, 160, 3), dtype=np.uint8)
    texture = texture.repeat(2, 0).repeat(2, 1)  # moves, so that every picture is another
    return encode(
        tmp_path / request.param,
        codec,
        (texture[k : k + 96, 2 * k : 2 * k + 128] for k in range(FRAMES)),
        kind=kind,
        pixels="yuvj420p" if codec == "mjpeg" else "yuv420p",
        bit_rate=3_000_000,
        options={"g": "10"},
        of_container=options,
    )


def test_wherever_a_file_is_cut_off(frames_of: FramesOf, whole: Path) -> None:
    sound, report, _ = frames_of(whole, threads=1)
    assert len(sound) == FRAMES and report.error is None and not report.gaps and not missing_bytes(str(whole))
    data = whole.read_bytes()
    most = len(data) if whole.name != "parts.mp4" else data.rindex(b"mfra")  # an index
    cut = whole.with_name(f"cut_{whole.name}")
    lengths = []
    for size in np.random.default_rng(1).integers(most // 3, most - most // 30, 8).tolist():
        cut.write_bytes(data[: size + (size % 188 == 0) + (size % 192 == 0)])
        found, report, _ = frames_of(cut, threads=1)
        assert sorted(found) == list(range(len(found)))
        assert [k for k in found if (found[k] != sound[k]).any()] == []
        assert report.error is not None and cut.name in report.error
        assert report.gaps[-1].end_frame is None and report.gaps[-1].first_frame >= len(found)
        assert report.video.n_frames == report.gaps[-1].first_frame
        again, other, _ = frames_of(cut, threads=2)
        assert sorted(again) == sorted(found) and other.gaps == report.gaps
        lengths.append(len(found) * len(data) / size)
    assert np.median(lengths) > 0.8 * FRAMES  # no more is given up than must be


@pytest.mark.parametrize("whole", ["a.mkv", "a.avi"], indirect=True)
def test_all_is_there_if_only_the_index_behind_it_is_cut_off(frames_of: FramesOf, whole: Path) -> None:
    whole.write_bytes(whole.read_bytes()[:-60])
    found, report, _ = frames_of(whole, threads=1)
    assert len(found) == FRAMES and report.error is None and not report.gaps


@pytest.mark.parametrize("whole", ["a.flv", "a.wmv", "a.mp4"], indirect=True)
def test_a_stream_written_live_does_not_say_how_long_it_is(whole: Path) -> None:
    data = bytearray(whole.read_bytes())
    if whole.suffix == ".flv":
        at = data.index(b"filesize") + 9
        data[at : at + 8] = bytes(8)
    elif whole.suffix == ".wmv":
        data[data.index(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")) + 88] |= 1
    else:
        at = data.index(b"mdat") - 4
        data[at : at + 4] = bytes(4)
    whole.write_bytes(bytes(data)[: len(data) * 2 // 3])
    assert missing_bytes(str(whole)) == 0


def test_other_files_miss_nothing(tmp_path: Path, sound_only: Path) -> None:
    path = tmp_path / "any"
    rng = np.random.default_rng(0)
    contents: list[bytes] = [b"", b"RIFF", b"FLV", bytes(5000), b"\x47" * 100, sound_only.read_bytes()]
    contents += [rng.bytes(int(size)) for size in rng.integers(0, 3000, 50)]
    contents += [
        start + rng.bytes(700) for start in (b"FLV", b"RIFF", b"\x1a\x45\xdf\xa3") for _ in range(20)
    ]
    for content in contents:
        path.write_bytes(content)
        assert missing_bytes(str(path)) == 0


@pytest.mark.parametrize("whole", ["a.ts", "hevc.ts", "a.m2ts"], indirect=True)
def test_packets_lost_on_the_way_are_a_gap_and_shift_nothing(frames_of: FramesOf, whole: Path) -> None:
    """Receivers that miss something write files that look whole but for their packets' counters."""
    sound, _, _ = frames_of(whole, threads=1)
    data, width = whole.read_bytes(), 192 if whole.suffix == ".m2ts" else 188
    packets = len(data) // width
    broken = whole.with_name(f"broken_{whole.name}")
    for lost in (1, 5, 40):
        for at in np.random.default_rng(lost).integers(packets // 6, packets * 3 // 4, 6).tolist():
            broken.write_bytes(data[: at * width] + data[(at + lost) * width :])
            found, report, _ = frames_of(broken, threads=1)
            assert [k for k in found if k not in sound or (found[k] != sound[k]).any()] == []
            gaps = [set(range(gap.first_frame, gap.end_frame or FRAMES)) for gap in report.gaps]
            assert len(gaps) <= 1 and all(gap.isdisjoint(found) for gap in gaps)
            assert len(found) + sum(map(len, gaps)) >= FRAMES - 1  # if the last one is gone, nothing tells


@pytest.mark.parametrize("whole", ["a.ts", "hevc.ts", "a.m2ts"], indirect=True)
def test_streams_that_were_joined_lose_little_and_shift_nothing(frames_of: FramesOf, whole: Path) -> None:
    """Cameras write pieces that people join end to end: counters and times begin again in each."""
    sound, _, _ = frames_of(whole, threads=1)
    joined = whole.with_name(f"joined_{whole.name}")
    joined.write_bytes(whole.read_bytes() * 3)
    found, report, _ = frames_of(joined, threads=1)
    assert report.video.n_frames == 3 * FRAMES
    assert [k for k in found if (found[k] != sound[k % FRAMES]).any()] == []
    assert 3 * FRAMES - 20 <= len(found) <= 3 * FRAMES
    again, other, _ = frames_of(joined, threads=2)
    assert sorted(again) == sorted(found) and other.gaps == report.gaps
