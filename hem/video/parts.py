"""What all have in common that walk through the parts of a file while its packets are read."""

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import BinaryIO


class Chain(ABC):
    """The parts of a file, walked through while its packets are read.

    Attributes:
        sure_of_end: what is broken before the end of the file is pictures that are lost, whatever the header
            says; otherwise it may be anything, such as an index.
    """

    sure_of_end = False

    @abstractmethod
    def broken_before(self, pos: int | None) -> bool:
        """Whether something that cannot be read lies between the packet asked about last and this one.

        Args:
            pos: where the packet lies, as FFmpeg gives it; asked once for each packet of the stream, in the
                order of the file. Before the first one nothing is looked at. None: the end of the file.
        """

    def lost_from(self, pos: int) -> int | None:
        """Return when pictures begin that lie before the first packet; None if none does or it is unknown.

        Where what lies there cannot be read, pictures are taken to.

        Args:
            pos: where the first packet of the stream lies.

        Returns:
            A time in the unit of the packets'.
        """
        return None

    def close(self) -> None:
        """Close the file if one is open; harmless when called twice."""
        return None


class FileChain(Chain):
    """One that reads the file itself.

    Args:
        path: a local file.
    """

    def __init__(self, path: str) -> None:
        self._file: BinaryIO = Path(path).open("rb", buffering=0)  # noqa: SIM115 - closed by close
        self._size = os.fstat(self._file.fileno()).st_size

    def _read(self, at: int, count: int) -> bytes:
        self._file.seek(at)
        return self._file.read(count)

    def close(self) -> None:
        """See Chain."""
        self._file.close()
