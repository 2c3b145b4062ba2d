"""Peak memory of mining a 2-minute and a 20-minute video, each in a process of its own.

    python experiments/benchmarks/mining_memory.py [--minutes 2 20] [--fps 25]

One short clip is encoded and repeated to the length wanted without encoding again; every frame holds
three steady boxes and one in ten another. Peaks are of the child's resident set: of collecting evidence,
which must not grow with the video, and of all of it, whose answer has an example for every box.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import av
from decode_rate import moving_texture
from mine_from_detections import COLLECT

from hem.api import mine_videos
from hem.mining.collect import collect_evidence
from hem.mining.presets import Hem
from hem.mining.sources import read_detections
from hem.video.manifest import scan_videos
from hem.video.source import open_source
from hem.video.writer import write_video


def repeated(clip: Path, path: Path, times: int) -> int:
    """Write a clip's packets again and again; return the number of frames."""
    frames = 0
    with av.open(str(path), "w") as output:
        stream, shift, end = None, 0, 0
        for _ in range(times):
            with av.open(str(clip)) as source:
                given = source.streams.video[0]
                stream = stream or output.add_stream_from_template(given)
                for packet in source.demux(given):
                    if packet.dts is None or packet.pts is None:
                        continue
                    end = max(end, packet.pts + shift + (packet.duration or 1))
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = stream
                    output.mux(packet)
                    frames += 1
            shift = end
    return frames


def write_detections(path: Path, frames: int) -> None:
    """Write authors' text at a tenth of the size of the 720p file's boxes."""
    lines = []
    for t in range(frames):
        rows = [(20 + 40 * k, 40, 18, 22, 0.9) for k in range(3)]
        if t % 10 == 0:
            rows.append((20 + (37 * t) % 100, 6, 16, 20, 0.8))
        lines += [f"f{t}", str(len(rows)), *(" ".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")


def peak() -> float:
    """Return the largest resident set of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def child(folder: Path) -> None:
    """Collect evidence, then mine afresh with everything that is written; print both peaks in MiB."""
    videos = scan_videos(folder / "long.mp4").videos
    found = read_detections(folder / "long.txt", videos[0])
    with open_source(videos[0], batch_size=16, grey=True) as source:
        frames = collect_evidence(source.grey_batches(), found, settings=COLLECT).detections.n_frames
    collected = peak()
    del found  # mining reads its own
    mine_videos(videos, Hem(), detections=folder / "long.txt", collect=COLLECT, output_dir=folder / "out")
    print(json.dumps({"frames": frames, "collect": collected, "whole": peak()}))


def main() -> None:
    """Print a row for each length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, nargs="+", default=[2, 20])
    parser.add_argument("--fps", type=int, default=25)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        child(arguments.child)
        return
    print("| minutes | frames | peak of collecting, MiB | of the first | and of mining | of the first |")
    print("|---|---|---|---|---|---|")
    first: dict[str, float] = {}
    for minutes in arguments.minutes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "clip").mkdir()
            write_video(folder / "clip" / "a.mp4", moving_texture(120, 160, 250), fps=arguments.fps)
            times = max(1, round(minutes * 60 * arguments.fps / 250))
            frames = repeated(folder / "clip" / "a.mp4", folder / "long.mp4", times)
            write_detections(folder / "long.txt", frames)
            command = [sys.executable, __file__, "--child", str(folder)]
            answer = json.loads(
                subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
            )
        first = first or answer
        columns = " | ".join(f"{answer[k]:.0f} | {answer[k] / first[k]:.3f}" for k in ("collect", "whole"))
        print(f"| {minutes:g} | {answer['frames']} | {columns} |", flush=True)


if __name__ == "__main__":
    main()
