"""Packets that FFmpeg steps over without a word are a gap, and shift nothing; sound files have none."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from hem.structures import VideoReport
from hem.video.chain import chain_of, with_breaks
from hem.video.packets import increasing, packet_times

Encode = Callable[..., Path]
FramesOf = Callable[..., tuple[dict[int, np.ndarray], VideoReport, dict[int, float]]]
FRAMES = 40
UNEVEN = np.cumsum(np.random.default_rng(3).integers(10, 600, FRAMES))
REPEATS_DROPPED = 40 * np.cumsum(np.random.default_rng(4).choice([1, 1, 1, 2, 5], FRAMES))
KINDS = {
    "a.mkv": {"codec": "libx264"},
    "front.mkv": {"codec": "libx264", "of_container": {"cues_to_front": "1", "reserve_index_space": "9999"}},
    "small.mkv": {"codec": "libx264", "of_container": {"cluster_size_limit": "2000"}},
    "live.mkv": {"codec": "libx264", "of_container": {"live": "1"}},
    "mpeg4.mkv": {"codec": "mpeg4", "options": {"bf": "2", "g": "10"}},
    "mjpeg.mkv": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "sound.mkv": {"codec": "libx264", "sound": "aac"},
    "a.webm": {"codec": "libvpx"},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"g": "10", "auto-alt-ref": "1", "lag-in-frames": "10"}},
    "a.flv": {"codec": "libx264"},
    "sound.flv": {"codec": "libx264", "sound": "aac"},
    "a.wmv": {"codec": "wmv2", "kind": "asf"},
    "sound.wmv": {"codec": "wmv2", "kind": "asf", "sound": "mp2"},
    "small.wmv": {"codec": "msmpeg4v3", "kind": "asf", "of_container": {"packet_size": "800"}},
}


@pytest.fixture
def make(tmp_path: Path, encode: Encode) -> Callable[..., Path]:
    def made(name: str, times_ms: np.ndarray | None = None) -> Path:
        texture = np.random.default_rng(5).integers(0, 255, (96, 160, 3), dtype=np.uint8)
        texture = texture.repeat(2, 0).repeat(2, 1)
        pictures = (texture[k : k + 96, 2 * k : 2 * k + 128] for k in range(FRAMES))
        settings = {"bit_rate": 2_000_000, "options": {"g": "10"}, **KINDS[name]}
        return encode(tmp_path / name, pictures=pictures, times_ms=times_ms, **settings)

    return made


@pytest.mark.parametrize("times_ms", [None, UNEVEN, REPEATS_DROPPED], ids=["even", "uneven", "dropped"])
@pytest.mark.parametrize("name", KINDS)
def test_a_sound_file_has_no_break(
    make: Callable[..., Path], frames_of: FramesOf, name: str, times_ms: np.ndarray | None
) -> None:
    path = make(name, times_ms)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        chain = chain_of(str(path), container.format.name, stream.id)
        assert chain is not None
        breaks = [found for _, found in with_breaks(container.demux(stream), chain)]
        assert not any(breaks) and not chain.broken_before(None)
        chain.close()
    found, report, _ = frames_of(path, threads=1)
    assert len(found) == FRAMES and not report.gaps and report.error is None


def overwritten(path: Path, at: int, count: int, seed: int) -> Path:
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    data[at : at + count] = (rng.bytes(count), bytes(count), b"\xff" * count)[seed % 3]
    broken = path.with_name(f"broken_{path.name}")
    broken.write_bytes(bytes(data))
    return broken


def heads_of(path: Path) -> list[int]:
    """Where what stands before each packet of pictures begins, about; not of the first and the last few."""
    with av.open(str(path)) as container:
        return [packet.pos - 4 for packet in container.demux(video=0) if packet.size][5:-12]


@pytest.mark.parametrize("name", ["a.mkv", "sound.mkv", "a.webm", "a.flv", "sound.flv", "a.wmv", "sound.wmv"])
def test_what_is_stepped_over_is_a_gap_and_shifts_nothing(
    make: Callable[..., Path], frames_of: FramesOf, name: str
) -> None:
    path = make(name)
    sound, _, times = frames_of(path, threads=1)
    heads = heads_of(path)
    lost = []
    for seed in range(12):
        at = heads[(5 * seed) % len(heads)]
        found, report, now = frames_of(overwritten(path, at, (8, 900, 15_000)[seed // 4], seed), threads=1)
        assert [k for k in found if k not in sound or (found[k] != sound[k]).any()] == []
        assert all(now[k] == pytest.approx(times[k], abs=0.0011) for k in found)
        gaps = [set(range(gap.first_frame, gap.end_frame or FRAMES)) for gap in report.gaps]
        assert set(found) == set(range(FRAMES)) - set().union(*gaps)
        if seed < 3:
            again, other, _ = frames_of(path.with_name(f"broken_{name}"), threads=2)
            assert sorted(again) == sorted(found) and other.gaps == report.gaps
        lost.append(FRAMES - len(found))
    assert max(lost) > 0 and np.median(lost) <= 20


def test_a_block_whose_name_is_damaged_is_lost(make: Callable[..., Path], frames_of: FramesOf) -> None:
    """What Matroska does not know FFmpeg steps over as it should; here it is a picture that none needs."""
    path = make("mjpeg.mkv")
    sound, _, _ = frames_of(path, threads=1)
    with av.open(str(path)) as container:
        pos = [packet.pos for packet in container.demux(video=0) if packet.size][16]
    data = bytearray(path.read_bytes())
    at = data.rindex(b"\xa3", pos - 9, pos)  # SimpleBlock
    data[at] = 0xF9
    path.write_bytes(bytes(data))
    found, report, _ = frames_of(path, threads=1)
    assert report.gaps and report.video.n_frames == FRAMES
    assert [k for k in found if (found[k] != sound[k]).any()] == []


@pytest.mark.parametrize("name", ["a.webm", "a.flv", "a.wmv"])
def test_an_end_that_cannot_be_read_is_told(
    make: Callable[..., Path], frames_of: FramesOf, name: str
) -> None:
    path = make(name)
    sound, _, _ = frames_of(path, threads=1)
    at = heads_of(path)[-1]
    broken = overwritten(path, at, path.stat().st_size - at, 0)
    found, report, _ = frames_of(broken, threads=1)
    assert sorted(found) == list(range(len(found))) and FRAMES - 16 <= len(found) < FRAMES - 10
    assert [k for k in found if (found[k] != sound[k]).any()] == []
    assert report.gaps[-1].end_frame is None and "cannot be read on at" in str(report.error)


@pytest.mark.parametrize("name", ["a.mkv", "a.flv", "a.wmv"])
def test_a_break_is_seen_in_the_times_of_packets(make: Callable[..., Path], name: str) -> None:
    """So that decoders that know nothing of it leave such files to PyAV."""
    path = make(name)
    assert increasing(packet_times(str(path)))
    assert not increasing(packet_times(str(overwritten(path, heads_of(path)[3], 900, 1))))
