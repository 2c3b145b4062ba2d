"""Whether a file ends before its own header says that it does.

Decoders read such a file as far as it goes, and many say nothing.
"""

import os
import struct
from pathlib import Path
from typing import BinaryIO

from hem.video.transport import layout_of

_MOST_PARTS = 1_000_000  # of a file: one that is larger than that is not looked through
_HEAD = 65_536  # bytes of a file in which its header lies
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_MATROSKA_SEGMENT = b"\x18\x53\x80\x67"


def missing_bytes(path: str) -> int:
    """Return by how many bytes a file is shorter than it should be; 0 where it does not say.

    MP4, MOV and AVI have the size of the part with the pictures before it; Matroska, WebM, FLV and ASF (WMV)
    their own in the header, unless they were written live; MPEG transport streams are whole packets.
    """
    with Path(path).open("rb") as file:
        head, size = file.read(_HEAD), file.seek(0, os.SEEK_END)
        ends = _matroska(head) or _flv(head) or _asf(head) or _transport(head, size)
        ends = ends or (_avi(file, size) if head[:4] == b"RIFF" else _mp4(file, size))
    return max(0, ends - size)


def _mp4(file: BinaryIO, size: int) -> int:
    """Return where the last box of pictures ends; a box of size 0 goes on to the end of the file."""
    at = ends = 0
    for _ in range(_MOST_PARTS):
        file.seek(at)
        length, name, large = struct.unpack(">I4sQ", file.read(16).ljust(16, b"\0"))
        length = large if length == 1 else length
        if length < 8 or not name.isalnum():
            break
        at += length
        ends = at if name in (b"mdat", b"moof") else ends
        if at >= size:
            break
    return ends


def _avi(file: BinaryIO, size: int) -> int:
    """Return where the last ``movi`` list ends; large files have several RIFF parts."""
    at = ends = 0
    for _ in range(_MOST_PARTS):
        file.seek(at)
        name, length, kind = struct.unpack("<4sI4s", file.read(12).ljust(12, b"\0"))
        if name == b"RIFF":
            at += 12  # look inside
            continue
        if not length or not name.strip().isalnum():
            break
        at += 8 + length + length % 2
        ends = at if name == b"LIST" and kind == b"movi" else ends
        if at >= size:
            break
    return ends


def _matroska(head: bytes) -> int:
    before, _, after = head[:4096].partition(_MATROSKA_SEGMENT)  # the segment: all but the header
    if not before.startswith(b"\x1a\x45\xdf\xa3") or not after or not after[0]:
        return 0
    width = 9 - after[0].bit_length()  # bytes of the segment's size; the first bit set is not of the number
    unknown = (1 << 7 * width) - 1  # in live streams, whose header is written before they end
    segment = int.from_bytes(after[:width], "big") & unknown
    return 0 if segment == unknown else len(before) + 4 + width + segment


def _flv(head: bytes) -> int:
    name = b"\x00\x08filesize\x00"  # of a number among the metadata
    at = head.find(name)
    if not head.startswith(b"FLV") or at < 0 or len(head) < at + len(name) + 8:
        return 0
    (size,) = struct.unpack_from(">d", head, at + len(name))
    return int(size) if 0 < size < 2**53 else 0


def _asf(head: bytes) -> int:
    at = head.find(_ASF_PROPERTIES)
    if not head.startswith(_ASF_HEADER) or at < 0 or len(head) < at + 92:
        return 0
    size, flags = struct.unpack_from("<Q", head, at + 40)[0], struct.unpack_from("<I", head, at + 88)[0]
    live = flags & 1
    return 0 if live else int(size)


def _transport(head: bytes, size: int) -> int:
    layout = layout_of(head)
    return -(-size // layout[0]) * layout[0] if layout else 0
