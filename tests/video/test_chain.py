"""Packets that FFmpeg steps over without a word are a gap, and shift nothing; sound files have none."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from hem.errors import HemError
from hem.structures import VideoReport
from hem.video.avi_index import avi_index
from hem.video.chain import chain_of, with_breaks
from hem.video.manifest import probe
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
    "hevc.mkv": {"codec": "libx265", "options": {"x265-params": "keyint=10:log-level=none"}},
    "mjpeg.mkv": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "sound.mkv": {"codec": "libx264", "sound": "aac"},
    "a.webm": {"codec": "libvpx"},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"g": "10", "auto-alt-ref": "1", "lag-in-frames": "10"}},
    "a.flv": {"codec": "libx264"},
    "sound.flv": {"codec": "libx264", "sound": "aac"},
    "a.wmv": {"codec": "wmv2", "kind": "asf"},
    "sound.wmv": {"codec": "wmv2", "kind": "asf", "sound": "mp2"},
    "large.wmv": {
        "codec": "wmv2",
        "kind": "asf",
        "sound": "mp2",
        "bit_rate": 200_000,
        "of_container": {"packet_size": "20000"},
    },
    "small.wmv": {"codec": "msmpeg4v3", "kind": "asf", "of_container": {"packet_size": "800"}},
    "a.ts": {"codec": "libx264"},
    "mpeg2.ts": {"codec": "mpeg2video", "options": {"bf": "2", "g": "10"}},
    "sound.ts": {"codec": "libx264", "sound": "aac"},
    "a.m2ts": {"codec": "libx264", "kind": "mpegts", "of_container": {"mpegts_m2ts_mode": "1"}},
    "fragments.mp4": {"codec": "libx264", "of_container": {"movflags": "frag_keyframe+empty_moov"}},
    "dash.mp4": {"codec": "libx264", "of_container": {"movflags": "dash+frag_keyframe+skip_sidx"}},
    "sound.mp4": {"codec": "libx264", "sound": "aac", "of_container": {"movflags": "frag_keyframe"}},
    "a.avi": {"codec": "libx264"},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"bf": "2", "g": "10"}},
    "sound.avi": {"codec": "mpeg4", "sound": "mp2"},
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


TIMES = {"even": None, "uneven": UNEVEN, "dropped": REPEATS_DROPPED}
ODD = {("mpeg2.ts", "uneven"), ("mpeg2.ts", "dropped")}  # MPEG-2 knows some rates only
SOUND = [(name, times) for name in KINDS for times in TIMES if (name, times) not in ODD]


@pytest.mark.parametrize(("name", "times"), SOUND)
def test_a_sound_file_has_no_break(
    make: Callable[..., Path], frames_of: FramesOf, name: str, times: str
) -> None:
    path = make(name, TIMES[times])
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        chain = avi_index(container, stream) or chain_of(str(path), container.format.name, stream.id)
        assert chain is not None
        breaks = [found for _, found in with_breaks(container.demux(stream), chain)]
        assert not any(breaks) and not chain.broken_before(None)
        chain.close()
    found, report, _ = frames_of(path, threads=1)
    assert len(found) == FRAMES and not report.gaps and report.error is None


@pytest.mark.parametrize("length", [0xA1E2, 0xA3FF, 0xA180, 0xA17F, 0x00A1_C0F0, 0x01A3_4ABC])
def test_a_length_whose_bytes_look_like_the_head_of_a_block_breaks_nothing(
    tmp_path: Path, frames_of: FramesOf, length: int
) -> None:
    """0xA1 and 0xA3 begin blocks of Matroska, and the first block is found from its content backwards."""
    cv2 = pytest.importorskip("cv2")
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for k in range(6):
            jpeg = cv2.imencode(".jpg", np.full((48, 64, 3), 40 * k, dtype=np.uint8))[1].tobytes()
            padded = jpeg.ljust(length - 4 if k == 0 else len(jpeg), b"\0")  # track, time and flags are four
            packet = av.Packet(padded)
            packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, 100 * k, 100 * k, True
            packet.time_base = Fraction(1, 1000)
            container.mux(packet)
    written = (
        (0x20_00_00 | length).to_bytes(3, "big")
        if length < 1 << 21
        else (1 << 28 | length).to_bytes(4, "big")
    )
    assert b"\xa3" + written in path.read_bytes()[:4096]
    found, report, _ = frames_of(path, threads=1)
    assert sorted(found) == list(range(6)) and not report.gaps


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


UNNOTICED = {"mpeg2.ts", "a.m2ts", "mpeg4.avi", "sound.avi"}
NOT_SEEN = {
    "large.wmv",
    "hevc.mkv",
    "mpeg4.mkv",
    "mjpeg.mkv",
    "vp9.webm",
    "small.wmv",
    "front.mkv",
    "small.mkv",
    "live.mkv",
}


@pytest.mark.parametrize("name", [name for name in KINDS if name not in NOT_SEEN])
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
        wrong = [k for k in found if k not in sound or (found[k] != sound[k]).any()]
        # what these decoders do not notice is wrong where it is, and nowhere else
        shifted = [k for k in wrong if any(np.array_equal(found[k], one) for one in sound.values())]
        assert (shifted if name in UNNOTICED else wrong) == []
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


@pytest.mark.parametrize("entry", [7, 20, FRAMES - 1])
def test_a_picture_that_the_index_lacks_is_none_the_less_there(
    make: Callable[..., Path], frames_of: FramesOf, entry: int
) -> None:
    path = make("a.avi")
    sound, _, _ = frames_of(path, threads=1)
    data = bytearray(path.read_bytes())
    begin = data.rindex(b"idx1") + 8 + 16 * entry
    data[begin : begin + 4] = b"????"
    path.write_bytes(bytes(data))
    found, report, _ = frames_of(path, threads=1)
    assert len(found) == FRAMES and not report.gaps and report.error is None
    assert [k for k in found if (found[k] != sound[k]).any()] == []
    with av.open(str(path)) as container:
        pos = [packet.pos for packet in container.demux(video=0) if packet.size][24]
    data[pos - 8 : pos] = bytes(8)
    path.write_bytes(bytes(data))
    found, report, _ = frames_of(path, threads=1)
    assert [k for k in found if (found[k] != sound[k]).any()] == []
    assert report.gaps and report.video.n_frames == FRAMES


def packets_of(path: Path, pid: int) -> list[int]:
    """Where the packets of a transport stream lie that hold its pictures."""
    data = path.read_bytes()
    numbers = {at: int.from_bytes(data[at + 1 : at + 3], "big") & 0x1FFF for at in range(0, len(data), 188)}
    return [at for at, number in numbers.items() if number == pid]


# in the head of a picture: its name, length, flags and time
@pytest.mark.parametrize(("at", "count"), [(3, 1), (4, 1), (7, 1), (9, 1), (0, 9), (7, 30)])
def test_a_picture_whose_head_is_damaged_is_lost_from_a_transport_stream(
    make: Callable[..., Path], frames_of: FramesOf, at: int, count: int
) -> None:
    path = make("a.ts")
    sound, _, _ = frames_of(path, threads=1)
    whole = path.read_bytes()
    begins = [k for k in packets_of(path, 256) if whole[k + 1] & 0x40]
    for begin in begins[4:-14:5]:
        data = bytearray(whole)
        head = begin + 4 + (1 + data[begin + 4]) * (data[begin + 3] >> 5 & 1)
        for k in range(head + at, head + at + count):
            data[k] ^= 0x5A
        path.write_bytes(bytes(data))
        found, report, _ = frames_of(path, threads=1)
        assert [k for k in found if (found[k] != sound[k]).any()] == []
        assert report.video.n_frames == FRAMES and len(found) >= FRAMES - 20
        assert report.gaps or len(found) == FRAMES  # FFmpeg knows where one belongs that has no time


def test_as_many_packets_as_their_counter_counts_are_missed(
    make: Callable[..., Path], frames_of: FramesOf
) -> None:
    path = make("a.ts")
    sound, _, _ = frames_of(path, threads=1)
    whole, ours = path.read_bytes(), packets_of(path, 256)
    for first in range(20, len(ours) - 150, 37):
        data = bytearray(whole)
        for at in ours[first : first + 16]:
            data[at : at + 188] = bytes(188)
        path.write_bytes(bytes(data))
        found, report, _ = frames_of(path, threads=1)
        assert [k for k in found if (found[k] != sound[k]).any()] == []
        assert report.gaps and report.video.n_frames == FRAMES


@pytest.mark.parametrize(("after", "lost"), [(b"", False), (bytes(70_000), False), (b"\x07" * 500, True)])
def test_what_stands_behind_the_last_fragment(
    make: Callable[..., Path], frames_of: FramesOf, after: bytes, lost: bool
) -> None:
    path = make("fragments.mp4")
    path.write_bytes(path.read_bytes() + after)
    found, report, _ = frames_of(path, threads=1)
    assert len(found) >= FRAMES - 10 * lost and bool(report.gaps) == lost
    assert ("although it goes on" in str(report.error)) == lost


@pytest.mark.parametrize("which", [1, 2, 3])
@pytest.mark.parametrize(("at", "count"), [(4, 4), (8, 16), (0, 4), (0, 60)])
def test_a_fragment_whose_head_is_damaged_is_lost(
    make: Callable[..., Path], frames_of: FramesOf, which: int, at: int, count: int
) -> None:
    path = make("fragments.mp4")
    sound, _, _ = frames_of(path, threads=1)
    data = bytearray(path.read_bytes())
    heads = [k - 4 for k in range(len(data)) if data.startswith(b"moof", k)]
    for k in range(heads[which] + at, heads[which] + at + count):
        data[k] ^= 0x5A
    path.write_bytes(bytes(data))
    found, report, _ = frames_of(path, threads=1)
    assert [k for k in found if (found[k] != sound[k]).any()] == []
    assert report.gaps or len(found) == FRAMES  # where the last one's length is wrong, nothing is lost
    assert report.video.n_frames == FRAMES or report.gaps[-1].end_frame is None


@pytest.mark.parametrize("name", ["a.ts", "mpeg4.avi", "mpeg4.mkv"])
def test_a_damaged_beginning_is_a_gap(make: Callable[..., Path], frames_of: FramesOf, name: str) -> None:
    path = make(name)
    sound, _, _ = frames_of(path, threads=1)
    with av.open(str(path)) as container:
        at = next(packet.pos for packet in container.demux(video=0) if packet.size)
    path = overwritten(path, at + (600 if name == "a.ts" else 40), 400, 2)
    found, report, _ = frames_of(path, threads=1)
    assert [k for k in found if (found[k] != sound[k]).any()] == []
    assert report.gaps[0].first_frame == 0 and report.video.n_frames == FRAMES and len(found) >= FRAMES - 20


@pytest.mark.parametrize(
    ("name", "before"),
    [("hevc.mkv", 0), ("vp9.webm", 0), ("a.mkv", 0)]
    # what tells where pictures begin is gone too
    + [(name, 24) for name in ("hevc.mkv", "vp9.webm", "a.mkv", "mjpeg.mkv", "mpeg4.mkv", "sound.mkv")],
)
def test_what_lies_before_the_first_packet_that_is_found_counts(
    make: Callable[..., Path], frames_of: FramesOf, name: str, before: int
) -> None:
    path = make(name)
    sound, _, _ = frames_of(path, threads=1)
    with av.open(str(path)) as container:
        at = next(packet.pos for packet in container.demux(video=0) if packet.size)
    path = overwritten(path, at - before, 300, 1)
    found, report, _ = frames_of(path, threads=1)
    assert [k for k in found if (found[k] != sound[k]).any()] == []
    assert report.gaps[0].first_frame == 0 and report.video.n_frames == FRAMES and len(found) >= FRAMES - 20
    assert not increasing(packet_times(str(path)))


def test_a_damaged_key_frame_costs_what_is_built_on_it_however_much(
    tmp_path: Path, encode: Encode, frames_of: FramesOf
) -> None:
    """VP9 refuses every picture up to the next key frame."""
    pictures = [np.full((64, 64, 3), 3 * (k % 80), np.uint8) for k in range(320)]
    path = encode(tmp_path / "a.mp4", "libvpx-vp9", pictures, options={"g": "300", "cpu-used": "8"})
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert [k for k, packet in enumerate(packets) if packet.is_keyframe] == [0, 300]
    found, report, _ = frames_of(overwritten(path, packets[0].pos, 6, 2), threads=1)
    assert sorted(found) == list(range(300, 320)) and report.error is None
    assert [(gap.first_frame, gap.end_frame) for gap in report.gaps] == [(0, 300)]


@pytest.mark.parametrize("place", range(1, 7))
def test_pictures_that_are_gone_from_within_a_packet_of_many_are_a_gap(
    make: Callable[..., Path], frames_of: FramesOf, place: int
) -> None:
    """Zeros are pieces of a stream that is none; what tells is that the objects' numbers go on further on."""
    path = make("large.wmv")
    sound, _, times = frames_of(path, threads=1)
    with av.open(str(path)) as container:
        pos = [packet.pos for packet in container.demux(video=0) if packet.size]
    second = sorted(set(pos))[1]
    assert pos.count(second) >= 8
    data = bytearray(path.read_bytes())
    data[second + 1500 * place : second + 1500 * place + 4000] = bytes(4000)
    path.write_bytes(bytes(data))
    found, report, now = frames_of(path, threads=1)
    assert 0 < FRAMES - len(found) <= 25 and report.gaps
    # up to the first of them, which the decoder may not notice to be damaged
    assert all((found[k] == sound[k]).all() for k in found if k >= report.gaps[-1].end_frame)
    assert all(now[k] == pytest.approx(times[k], abs=0.0011) for k in found)


@pytest.mark.parametrize("name", ["a.flv", "sound.flv"])
@pytest.mark.parametrize("kind", [8, 18])
def test_another_stream_that_begins_in_the_middle_of_the_file_ends_nothing(
    make: Callable[..., Path], frames_of: FramesOf, name: str, kind: int
) -> None:
    """FLV tells of no streams ahead: a damaged tag begins one, of sound or of other data."""
    path = make(name)
    with av.open(str(path)) as container:
        tags = [packet.pos for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    assert data[tags[25]] == 9  # a tag of pictures
    data[tags[25]] = kind
    path.write_bytes(bytes(data))
    found, report, _ = frames_of(path, threads=1)
    assert len(found) >= 29 and max(found) >= FRAMES - 2 and report.error is None
    assert len(packet_times(str(path))) >= FRAMES - 1


def test_pictures_in_an_unknown_codec_are_an_error_that_says_so(
    make: Callable[..., Path], tmp_path: Path
) -> None:
    data = make("sound.mp4").read_bytes()
    assert data.count(b"avc1") >= 1
    path = tmp_path / "unknown.mp4"
    path.write_bytes(data.replace(b"avc1", b"zzz9"))
    with pytest.raises(
        HemError, match=r"unknown\.mp4: its pictures are in a codec that FFmpeg does not know"
    ):
        probe(path)
