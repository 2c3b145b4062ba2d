"""Frames out of Caltech's .seq video files (Norpix, JPEG frames), written as they are.

``python -m hem.data.caltech_seq DIR [EVERY]`` does it for all ``set*/V*.seq`` under DIR.

Source: the header fields read by seqIo.m of github.com/pdollar/toolbox.
"""

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from hem.artifacts import whole_file
from hem.data.reading import inside, need
from hem.errors import HemError

_HEADER = 1024
_MAGIC = 0xFEED
_JPEG_FORMATS = {102, 201}
_MAX_FRAME_BYTES = 64 << 20
_MAX_FRAMES = 10_000_000


def read_seq(path: Path) -> Iterator[bytes]:
    """Yield the JPEG bytes of every frame of a .seq file, in order.

    Raises:
        HemError: if the file is not a .seq of JPEG frames, or is damaged or truncated, naming the
            first frame that cannot be read.
    """
    with need(path, "").open("rb") as stream:
        header = stream.read(_HEADER)
        if len(header) < _HEADER or struct.unpack_from("<I", header)[0] != _MAGIC:
            raise HemError(f"{path} is not a .seq video")
        kind = struct.unpack_from("<I", header, 568)[0]
        count = struct.unpack_from("<I", header, 572)[0]
        if kind not in _JPEG_FORMATS or count > _MAX_FRAMES:
            raise HemError(f"{path}: frames of kind {kind} ({count} of them) are not supported, only JPEG")
        padding, offset = 0, _HEADER
        for index in range(count):
            if index == 1:
                padding = _padding(stream.read(64), path)
            stream.seek(offset + padding)
            size = stream.read(4)
            length = struct.unpack("<I", size)[0] - 4 if len(size) == 4 else 0
            if not 2 < length <= _MAX_FRAME_BYTES:
                raise HemError(f"{path}: frame {index} of {count} is damaged or missing; truncated?")
            frame = stream.read(length)
            if len(frame) < length or frame[:2] != b"\xff\xd8":
                raise HemError(f"{path}: frame {index} of {count} is not a whole JPEG")
            offset = stream.tell()
            yield frame


def _padding(after: bytes, path: Path) -> int:
    """Return how many bytes (a time stamp, more in some files) lie between two frames."""
    for padding in range(0, len(after) - 6):
        if after[padding + 4 : padding + 6] == b"\xff\xd8":
            return padding
    raise HemError(f"{path}: no second frame after the first; the file is damaged")


def extract_frames(root: Path | str, every: int = 30) -> int:
    """Write every n-th frame of all ``set*/V*.seq`` under ``root`` as ``images/set00/V000/I00029.jpg``.

    Frame numbers in names are 0-based; with ``every`` = 30 the first is I00029, as the benchmark
    evaluates. Frames that are there already are kept.

    Returns:
        How many frames were written.
    """
    root = Path(root)
    if every < 1:
        raise HemError(f"every must be >= 1, got {every}")
    videos = sorted(root.glob("set*/V*.seq"))
    if not videos:
        raise HemError(f"{root}: no set*/V*.seq; unpack the official set00.tar … there")
    written = 0
    for video in videos:
        name = video.relative_to(root).with_suffix("").as_posix()
        for index, frame in enumerate(read_seq(inside(root, f"{name}.seq"))):
            target = inside(root, f"images/{name}/I{index:05d}.jpg")
            if (index + 1) % every == 0 and not target.exists():
                with whole_file(target) as temporary:
                    temporary.write_bytes(frame)
                written += 1
    return written


def main(arguments: list[str]) -> int:
    """Extract frames as the command line asks; returns the exit status."""
    if not 1 <= len(arguments) <= 2 or (len(arguments) == 2 and not arguments[1].isdigit()):
        print("usage: python -m hem.data.caltech_seq DIR [EVERY=30]", file=sys.stderr)
        return 2
    try:
        written = extract_frames(arguments[0], int(arguments[1]) if len(arguments) == 2 else 30)
    except HemError as error:
        print(f"hem: {error}", file=sys.stderr)
        return 2
    print(f"{written} frames written under {Path(arguments[0]) / 'images'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
