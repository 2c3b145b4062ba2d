"""Decoders that hang, die or give up are survived, and what was read before is kept."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from hem.ops.ahead import ahead
from hem.structures import FrameGap, VideoInfo
from hem.video import guarded
from hem.video.guarded import GuardedReader
from hem.video.manifest import probe
from hem.video.reader import ChainReader, DecoderFailed, FrameReader, Selection, load_reader, timed_frames
from hem.video.source import PYAV, FrameSource

MakeVideo = Callable[..., Path]


@pytest.fixture(autouse=True)
def fakes_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def guarded_source(video: VideoInfo, *names: str, stall_s: float = 30.0, **selection: Any) -> FrameSource:
    wanted = Selection(**selection)

    def opened(name: str, part: Selection) -> FrameReader:
        return GuardedReader(name, video.path, video.fps, part, stall_s=stall_s)

    chain = ChainReader(video.path, video.fps, wanted, [(name, partial(opened, name)) for name in names])
    return FrameSource(video, chain, 2, torch.device("cpu"), prefetch=0)


def numbers(source: FrameSource) -> list[int]:
    with source:
        return [index for batch in source for index in batch.frame_indices.tolist()]


@pytest.mark.parametrize(
    ("fake", "stall_s", "reason"),
    [
        ("fakes:Dies", 30.0, "killed by SIGSEGV"),
        ("fakes:Quits", 30.0, "ended with status 3"),
        ("fakes:GivesUp", 30.0, "fake: damage"),
    ],
)
def test_frames_before_the_end_are_kept(
    make_video: MakeVideo, fake: str, stall_s: float, reason: str
) -> None:
    video = VideoInfo("v.mp4", path=str(make_video(n=3)))
    source = guarded_source(video, fake, stall_s=stall_s)
    found = numbers(source)
    report = source.report()
    # a process that dies takes the chunk it was filling along; the gap starts where frames end
    assert found == list(range(len(found)))
    assert report.gaps == (FrameGap(len(found), None, report.gaps[0].reason),)
    assert reason in report.gaps[0].reason
    assert report.error is not None and video.path in report.error and reason in report.error
    assert report.video.n_frames is None
    if fake == "fakes:GivesUp":
        assert found == [0, 1, 2, 3, 4]


def test_a_hang_is_ended(make_video: MakeVideo) -> None:
    video = VideoInfo("v.mp4", path=str(make_video(n=3)))
    started = time.monotonic()
    source = guarded_source(video, "fakes:SleepsAtOnce", stall_s=1.0)
    assert numbers(source) == []
    assert time.monotonic() - started < 60
    assert source.report().gaps == (FrameGap(0, None, "no frame for 1 s, the decoder was ended"),)


@pytest.mark.parametrize("fake", ["fakes:Dies", "fakes:GivesUp"])
def test_the_next_decoder_goes_on(make_video: MakeVideo, fake: str) -> None:
    path = make_video(n=12, height=4, width=6)
    source = guarded_source(probe(path), fake, PYAV)
    assert numbers(source) == list(range(12))
    report = source.report()
    assert report.error is None and not report.gaps and report.video.n_frames == 12
    assert any("pyav goes on from frame" in note for note in source.notes)


def test_the_stride_keeps_its_phase_when_the_next_decoder_goes_on(make_video: MakeVideo) -> None:
    path = make_video(n=20, height=4, width=6)
    source = guarded_source(probe(path), "fakes:GivesUp", PYAV, start_frame=1, stride=3, end_frame=15)
    # the fake ignores the selection and gives frames 0..4; from then on the rest of 1, 4, 7, … is read
    assert numbers(source) == [0, 1, 2, 3, 4, 7, 10, 13]


@pytest.mark.parametrize(
    ("reached", "expected"), [(0, 2), (2, 2), (3, 5), (5, 5), (6, 8), (11, 11), (12, None)]
)
def test_rest_of_a_selection(reached: int, expected: int | None) -> None:
    rest = Selection(start_frame=2, end_frame=12, stride=3).from_frame(reached)
    assert (rest and rest.start_frame) == expected


def unguarded_source(video: VideoInfo, *names: str, only: frozenset[int] | None = None) -> FrameSource:
    openers = [(name, lambda part, name=name: load_reader(name)(video.path, 25.0, part, 0)) for name in names]
    chain = ChainReader(video.path, 25.0, Selection(only=only), openers)
    return FrameSource(video, chain, 2, torch.device("cpu"), prefetch=0)


@pytest.mark.parametrize("only", [None, frozenset({3}), frozenset({25})])
@pytest.mark.parametrize("fake", ["fakes:GapThenGivesUp", "fakes:GapThenEnd"])
def test_gaps_and_notes_are_the_same_with_and_without_guard(fake: str, only: frozenset[int] | None) -> None:
    video = VideoInfo("v.mp4", path="v.mp4")
    plain, guarded = unguarded_source(video, fake, only=only), guarded_source(video, fake, only=only)
    assert numbers(plain) == numbers(guarded)
    gap = FrameGap(10, 20, "damage")
    rest = (FrameGap(30, None, "fake: damage"),) if fake == "fakes:GapThenGivesUp" else ()
    assert plain.report() == guarded.report() and plain.report().gaps == (gap, *rest)
    assert plain.notes == guarded.notes == ("a note",)


def test_gaps_and_notes_from_before_a_hang_are_kept() -> None:
    source = guarded_source(VideoInfo("v.mp4", path="v.mp4"), "fakes:GapThenSleeps", stall_s=4.0)
    found = numbers(source)
    assert found[:10] == list(range(10)) and found[10:] == list(range(20, len(found) + 10))
    gaps = source.report().gaps
    assert gaps[0] == FrameGap(10, 20, "damage") and source.notes == ("a note",)
    assert [(gap.first_frame, gap.end_frame) for gap in gaps[1:]] == [(found[-1] + 1, None)]


@pytest.mark.parametrize(
    ("first", "expected"), [("GivesUp", [(10, 20)]), ("GivesMore", [(15, 20)]), ("GivesMost", [])]
)
def test_frames_that_the_first_decoder_gave_are_in_no_gap_of_the_next(
    first: str, expected: list[tuple[int, int]]
) -> None:
    source = unguarded_source(VideoInfo("v.mp4", path="v.mp4"), f"fakes:{first}", "fakes:GapThenEnd")
    found = numbers(source)
    report = source.report()
    assert [(gap.first_frame, gap.end_frame) for gap in report.gaps] == expected
    lost = {k for start, end in expected for k in range(start, end)}
    assert found == [k for k in range(30) if k not in lost] and report.video.n_frames == 30


def test_a_gap_beyond_what_the_first_decoder_gave_is_left_to_the_next() -> None:
    video = VideoInfo("v.mp4", path="v.mp4")
    source = unguarded_source(video, "fakes:GivesUpInAGap", "fakes:GapThenEnd")
    assert numbers(source) == [*range(10), *range(20, 30)]
    assert source.report().gaps == (FrameGap(10, 20, "damage"),)
    alone = unguarded_source(video, "fakes:GivesUpInAGap")
    assert numbers(alone) == [0, 1, 2, 3, 4]
    assert alone.report().gaps == (FrameGap(5, 8, "damage"), FrameGap(8, None, "fake: damage"))


def test_a_decoder_found_unsuited_after_another_gave_up_repeats_no_frame() -> None:
    names = "fakes:GivesUp", "fakes:SaysUnsuited", "fakes:GapThenEnd"
    source = unguarded_source(VideoInfo("v.mp4", path="v.mp4"), *names)
    assert numbers(source) == [*range(10), *range(20, 30)]


def test_noise_on_standard_output_is_harmless(make_video: MakeVideo) -> None:
    source = guarded_source(VideoInfo("v", path=str(make_video(n=3))), "fakes:Talks")
    assert numbers(source) == [0, 1, 2, 3, 4]
    assert source.report().error is None


def test_a_slow_consumer_keeps_the_decoder_waiting(make_video: MakeVideo) -> None:
    """A decoder that is ready stays at most three chunks ahead."""
    video = VideoInfo("v", path=str(make_video(n=3)))
    reader = GuardedReader("fakes:Long", video.path, 25.0, Selection())
    frames = timed_frames(reader)
    found = [next(frames).frame_index]
    time.sleep(1.0)
    ready = reader._answers.qsize()
    assert ready <= guarded._SLOTS + 2  # chunks, and at most a few signs of life
    found += [frame.frame_index for frame in frames]
    assert found == list(range(400)) and reader.n_frames == 400


def test_prefetch_is_bounded() -> None:
    made: list[int] = []

    def batches():  # type: ignore[no-untyped-def]
        for k in range(300):
            made.append(k)
            yield _batch(k)

    seen = 0
    for batch in ahead(batches(), depth=2):
        seen += 1
        time.sleep(0.001)
        # one in the consumer's hands, two waiting, one finished and waiting for room
        assert len(made) - seen <= 3, batch.frame_indices
    assert seen == 300


def _batch(k: int):  # type: ignore[no-untyped-def]
    from hem.structures import FrameBatch

    return FrameBatch(
        VideoInfo("v"), torch.zeros(1, 3, 2, 2, dtype=torch.uint8), torch.tensor([k]), torch.tensor([0.1 * k])
    )


def test_an_error_in_the_thread_arrives_after_the_batches_before_it() -> None:
    def batches():  # type: ignore[no-untyped-def]
        yield _batch(0)
        raise DecoderFailed("broken")

    stream = ahead(batches(), depth=2)
    assert next(stream).frame_indices.tolist() == [0]
    with pytest.raises(DecoderFailed, match="broken"):
        next(stream)


def test_closing_leaves_no_process_and_no_file(make_video: MakeVideo) -> None:
    reader = GuardedReader(PYAV, str(make_video(n=40)), 25.0, Selection())
    frames = reader.frames()
    next(frames)
    process, directory = reader._process, reader._directory
    assert process is not None and directory is not None and Path(directory).is_dir()
    reader.close()
    assert process.poll() is not None and not Path(directory).exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not told of their parent's end here")
@pytest.mark.parametrize("fake", ["fakes:Long", "fakes:Sleeps"])
def test_a_parent_that_is_killed_leaves_no_worker_and_no_file(make_video: MakeVideo, fake: str) -> None:
    """Neither while the worker waits for room nor in a decoder that hangs, whoever else holds the pipes."""
    code = f"""
import os, sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from hem.video.guarded import GuardedReader
from hem.video.reader import Selection
reader = GuardedReader({fake!r}, {str(make_video(n=3))!r}, 25.0, Selection())
frames = reader.frames()
if "Long" in {fake!r}:
    next(frames)
else:
    reader._start()
if not os.fork():
    time.sleep(25)  # holds the pipes as a worker of a loader does
    os._exit(0)
print(reader._process.pid, reader._directory, flush=True)
time.sleep(25)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker, directory = parent.stdout.readline().split()
        assert Path(directory).is_dir()
        if fake == "fakes:Long":
            assert not (Path(directory) / "frames").exists()  # mapped by both, gone with them
        parent.kill()
        ended = time.monotonic() + 20
        while Path(directory).exists() and time.monotonic() < ended:
            time.sleep(0.1)
        assert not Path(directory).exists()
        while _lives(int(worker)) and time.monotonic() < ended:
            time.sleep(0.1)
        assert not _lives(int(worker))
        parent.stdout.close()


def _lives(process: int) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat")
        if stat.exists():
            return stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"
        os.kill(process, 0)
    except OSError:
        return False
    return True


def test_the_worker_starts_without_torch() -> None:
    """Importing torch takes seconds, which every guarded video would pay."""
    code = "import sys, hem.video.worker, hem.video.pyav_source; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_worker_that_hangs_ends_itself(tmp_path: Path) -> None:
    """Nobody kills it; its own timer, 5 s and twice stall_s, ends a decoder that hangs."""
    orders = {
        "reader": "fakes:Sleeps", "path": "v.mp4", "fps": 25.0, "start_frame": 0, "end_frame": None,
        "stride": 1, "only": None, "threads": 0, "slots": 2, "chunk_frames": 8, "ring_bytes": 1 << 20,
        "stall_s": 0.1, "ring_dir": str(tmp_path), "parent": os.getpid(),
        "sys_path": [str(Path(__file__).parent), *sys.path],
    }  # fmt: skip
    worker = subprocess.Popen(
        [sys.executable, "-m", "hem.video.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert worker.stdin is not None and worker.stderr is not None
        worker.stdin.write(json.dumps(orders) + "\n")
        worker.stdin.flush()
        assert worker.wait(timeout=60) == 1
        assert "Timeout" in worker.stderr.read()
    finally:
        worker.kill()
        worker.communicate()
