"""Whether the parts of a file follow one another without a break, where its container says nothing of losses.

Matroska, FLV and ASF have no table of frames: each part tells only how long it is. FFmpeg steps over what it
cannot read there to the next part that looks sound, and gives what comes next as if nothing had been before
it. How the file is built between two packets tells: in a sound file one part ends where the next begins.
(Transport streams, fragmented MP4 and AVI: hem.video.transport, fragments and avi_index.)
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from hem.video.fragments import fragments_of
from hem.video.parts import Chain, FileChain
from hem.video.transport import Transport, layout_of

_HEAD = 65_536  # bytes of a file in which its header lies
_ASF_DATA_HEADER = 50  # bytes of the data object before its packets
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_COUNTS = 2  # objects numbered one by one, from which on their writer is taken to count
_FLV_TYPES = (8, 9, 18)  # sound, picture, other data
_FLV_HEADER, _FLV_FOOTER = 11, 4  # bytes of a tag before and after its content


def chain_of(path: str, container: str, stream_id: int) -> Chain | None:
    """Return the chain of a file; None for containers that tell of losses themselves, or of odd build.

    Args:
        path: a local file.
        container: FFmpeg's name of its format.
        stream_id: the number of the stream of pictures in the file.
    """
    names = container.split(",")
    if "matroska" in names:
        return _Matroska(path)
    if "flv" in names:
        return _Flv(path)
    if "mp4" in names:
        return fragments_of(path)
    with Path(path).open("rb") as file:
        head = file.read(_HEAD)
    if "mpegts" in names and (layout := layout_of(head)) is not None:
        return Transport(path, layout, stream_id)
    if "asf" in names:
        at = head.find(_ASF_PROPERTIES)
        least, most = (int.from_bytes(head[at + k : at + k + 4], "little") for k in (92, 96))
        if at > 0 and 0 < least == most:
            begin = int.from_bytes(head[16:24], "little") + _ASF_DATA_HEADER
            return _Asf(path, begin, least, stream_id)
    return None


def with_breaks(
    packets: Iterable[Any], chain: Chain | None, ends_early: Callable[[Any], bool] = lambda _: False
) -> Iterator[tuple[Any, bool]]:
    """Yield each packet of a stream, and whether something that FFmpeg stepped over lies right behind it.

    Where that begins, the end of the packet may be wrong too.

    Args:
        packets: as PyAV demuxes them, with the empty ones at the end.
        chain: of their file; None finds nothing.
        ends_early: says the same of the last one, given it.
    """
    last = None
    for packet in packets:
        if chain is None:
            yield packet, False
            continue
        if packet.size:
            breaks = packet.pos is not None and packet.pos >= 0 and chain.broken_before(packet.pos)
        else:
            breaks = last is not None and last.size > 0 and ends_early(last)
        if last is not None:
            yield last, breaks
        last = packet
    if last is not None:
        yield last, False


class _Element(NamedTuple):
    name: int  # EBML's ID with its marking bits
    content: int  # where its content begins
    end: int | None  # where it ends; None if it does not say, as in files written live


class _Matroska(FileChain):
    """Elements one after the other; of those that hold packets, what they hold."""

    _TIME = 0xE7  # of a cluster
    _BLOCKS = frozenset({0xA3, 0xA1})
    _OPENED = frozenset({0x18538067, 0x1F43B675, 0xA0})  # segment, cluster, block group
    # in the segment, in a cluster, in a block group, and anywhere
    _KNOWN = frozenset(
        {0x1A45DFA3, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367}
        | {_TIME, 0x5854, 0xA7, 0xAB, 0xA3, 0xAF}
        | {0xA1, 0xA2, 0x75A1, 0x9B, 0xFA, 0xFB, 0xFD, 0xA4, 0x75A2, 0x8E, 0xC8}
        | {0xEC, 0xBF}
    )

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._at: int | None = None  # where the next element begins
        self._track = -1

    def lost_from(self, pos: int) -> int | None:
        """See Chain."""
        self._track, at, time = self._track_at(pos), 0, None
        while at < pos:
            element = self._element(at)
            if element is None:
                return time or 0  # what is here cannot be read, and times begin at 0
            if element.content == pos:
                return None
            if element.name == self._TIME and element.end is not None and time is None:
                time = int.from_bytes(
                    self._read(element.content, min(8, element.end - element.content)), "big"
                )
            elif time is not None and self._is_picture(element):
                return time
            at = self._next_after(element)
        return time or 0  # what is here tells a wrong length

    def broken_before(self, pos: int | None) -> bool:
        """See Chain; ``pos`` is where a block's content begins."""
        at, odd, passed = self._at, False, False
        end = self._size if pos is None else pos
        if at is None:
            self._begin_at(pos)
            return False
        if at > end:
            return False  # several packets of one block
        while at < end:
            element = self._element(at)
            if element is None or (element.end is None and element.name not in self._OPENED):
                self._begin_at(pos)
                return True
            if element.content == pos and element.end is not None:
                self._at = element.end
                return passed
            odd |= element.name not in self._KNOWN and element.name not in self._OPENED
            passed |= self._is_picture(element)  # which FFmpeg did not give
            at = self._next_after(element)
        if pos is None:
            return odd or passed or at > end
        begins = self._begin_at(pos)  # if no block does, the packet was put together from several
        return odd or begins or at > self._size

    def _next_after(self, element: _Element) -> int:
        """Return where the next element begins: in this one, if it is one that is looked into."""
        return element.content if element.name in self._OPENED or element.end is None else element.end

    def _begin_at(self, pos: int | None) -> bool:
        """Go on behind the block whose content begins here, and return whether one does.

        How long the block's head is stands at its front, which is not known: bytes of a longer head may look
        like a shorter one. The right one is followed by something that Matroska knows, or by nothing.
        """
        self._at = None
        if pos is None:
            return False
        heads = (self._element(pos - width - 1) for width in range(min(8, pos - 1), 0, -1))
        blocks = [one for one in heads if one and one.name in self._BLOCKS and one.content == pos]
        if not blocks:
            return False
        block = next((one for one in blocks if self._follows(one.end)), blocks[0])
        self._at, self._track = block.end, self._track_at(pos)
        return block.end is not None

    def _follows(self, at: int | None) -> bool:
        """Whether an element that Matroska knows, or the end of the file, is here."""
        if at is None or at >= self._size:
            return at == self._size
        element = self._element(at)
        return element is not None and element.name in self._KNOWN | self._OPENED

    def _is_picture(self, element: _Element) -> bool:
        """Whether this is a block of the stream with something in it (its own head takes four bytes).

        One whose name is damaged is none to FFmpeg; an element that Matroska does not know counts as such if
        it begins as the stream's blocks do.
        """
        size = 0 if element.end is None else element.end - element.content
        named = element.name in self._BLOCKS or element.name not in self._KNOWN | self._OPENED
        return named and size > 4 and self._track_at(element.content) == self._track

    def _track_at(self, at: int) -> int:
        return (self._read(at, 1) or b"\0")[0]  # tracks beyond 126 take more bytes, and begin alike

    def _element(self, at: int) -> _Element | None:
        head = self._read(at, 12)
        name = 9 - head[0].bit_length() if head else 9  # bytes of the name
        width = 9 - head[name].bit_length() if name <= 4 and len(head) > name else 9  # of the length
        if width > 8 or len(head) < name + width:
            return None
        unknown = (1 << 7 * width) - 1
        length = int.from_bytes(head[name : name + width], "big") & unknown
        content = at + name + width
        end = None if length == unknown else content + length
        return _Element(int.from_bytes(head[:name], "big"), content, end)


class _Flv(FileChain):
    """Tags one after the other; each is followed by its length, which some writers get wrong."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._at: int | None = None

    def broken_before(self, pos: int | None) -> bool:
        """See Chain; ``pos`` is where a tag begins."""
        end = self._size if pos is None else pos
        at = end if self._at is None else self._at
        broken = False
        while at < end and not broken:
            known, follows, at = self._tag(at)
            broken = not (known or follows) or at > end
        if pos is not None and (broken or at <= pos):
            self._at = self._tag(pos)[2]
        return broken

    def _tag(self, at: int) -> tuple[bool, bool, int]:
        """Return whether its kind is known, whether its length follows it, and where the next begins."""
        head = self._read(at, 4)
        length = _FLV_HEADER + int.from_bytes(head[1:4], "big")
        follows = self._read(at + length, _FLV_FOOTER) == length.to_bytes(4, "big")
        return head[:1] != b"" and head[0] & 0x1F in _FLV_TYPES, follows, at + length + _FLV_FOOTER


class _Piece(NamedTuple):
    """A piece of an object (of a picture); ``stream`` is -1 for a packet that makes no sense."""

    packet: int  # where its packet lies in the file
    stream: int = -1
    number: int = 0  # of the object
    offset: int = 0  # in the object
    size: int = 0  # of the object
    length: int = 0


class _Asf(FileChain):
    """Packets of one size, that hold pieces of objects."""

    def __init__(self, path: str, begin: int, packet_bytes: int, stream: int) -> None:
        super().__init__(path)
        self._packet_bytes, self._stream = packet_bytes, stream
        length = int.from_bytes(self._read(begin - _ASF_DATA_HEADER + 16, 8), "little")
        if length > _ASF_DATA_HEADER:
            self._size = min(self._size, begin - _ASF_DATA_HEADER + length)  # an index may follow
        self._pieces: Iterator[_Piece] = iter(())
        self._ahead: _Piece | None = None  # seen, and not dealt with
        self._object: _Piece | None = None  # the newest one's first piece
        self._have = 0  # bytes of it
        self._counted = 0  # objects whose number was one more than the one's before, up to the newest
        self._known = True

    def broken_before(self, pos: int | None) -> bool:
        """See Chain; ``pos`` is where the packet with an object's first piece lies."""
        first = self._object is None
        if first and pos is not None:
            self._pieces = self._pieces_from(pos)
        broken = False
        while self._known and (piece := self._ahead or next(self._pieces, None)) is not None:
            self._ahead = piece
            if pos is not None and piece.packet > pos:
                return broken
            self._ahead = None
            if piece.stream not in (-1, self._stream):
                continue
            if piece.stream == self._stream and piece.offset == 0:
                broken |= self._object is not None and self._have != self._object.size
                broken |= self._skips_to(piece)
                self._object, self._have = piece, piece.length
                if piece.packet == pos:
                    return broken and not first
                broken = True  # an object that FFmpeg did not give
                continue
            broken |= piece.stream < 0 or not self._goes_on(piece)
            self._have += piece.length
        return broken and self._known

    def _skips_to(self, piece: _Piece) -> bool:
        """Whether the numbers of objects, which writers count up (not all of them), leave some out here."""
        if self._object is None:
            return False
        counted = self._counted
        self._counted = counted + 1 if (piece.number - self._object.number) % 256 == 1 else 0
        return counted >= _ASF_COUNTS and not self._counted

    def _goes_on(self, piece: _Piece) -> bool:
        one = self._object
        return one is not None and (piece.number, piece.size) == one[2:5:2] and piece.offset == self._have

    def _pieces_from(self, at: int) -> Iterator[_Piece]:
        while at + self._packet_bytes <= self._size:
            try:
                yield from self._pieces_of(at, self._read(at, self._packet_bytes))
            except IndexError:
                yield _Piece(at)
            at += self._packet_bytes

    def _pieces_of(self, at: int, data: bytes) -> list[_Piece]:
        """Return what a packet holds; IndexError if it cannot be."""
        reader = _Fields(data)
        if data[0] & 0x80:
            reader.take(1 + (data[0] & 0x0F))  # data to correct errors with
        lengths, kinds = reader.number(1), reader.number(1)
        if kinds >> 6 != 1:  # a stream's number has one byte
            raise IndexError
        total = reader.field(lengths >> 5) or len(data)
        reader.field(lengths >> 1)
        padding = reader.field(lengths >> 3)
        reader.take(6)  # when it is sent, and for how long
        end = min(total, len(data)) - padding if total <= len(data) else -1
        several = reader.number(1) if lengths & 1 else 1
        pieces = []
        for _ in range(several & 0x3F):
            stream = reader.number(1) & 0x7F
            number, offset, more = (reader.field(kinds >> shift) for shift in (4, 2, 0))
            self._known &= more != 1  # objects so small that several make a piece: not of pictures
            size = int.from_bytes(reader.take(more)[:4], "little")
            length = reader.field(several >> 6) if lengths & 1 else end - reader.at
            reader.take(length)
            pieces.append(_Piece(at, stream, number, offset, size, length))
        if reader.at > end:
            raise IndexError
        return pieces


class _Fields:
    """Numbers of a packet one after the other; IndexError behind its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        if count < 0 or self.at + count > len(self._data):
            raise IndexError
        self.at += count
        return self._data[self.at - count : self.at]

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "little")

    def field(self, kind: int) -> int:
        """Return a number of none, one, two or four bytes."""
        return self.number((0, 1, 2, 4)[kind & 3])
