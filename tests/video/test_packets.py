"""Packets are read on where PyAV alone would end."""

from collections.abc import Iterator

from hem.video.packets import packets_of


def test_packets_go_on_behind_one_of_a_stream_that_pyav_does_not_know() -> None:
    """Whether it fails at one hangs on what lies in memory, so that no file shows it surely."""

    class Container:
        parts = iter([([1, 2], IndexError), ([3], IndexError), ([4], None)])

        def demux(self, stream: object) -> Iterator[int]:
            packets, error = next(self.parts)
            yield from packets
            if error:
                raise error("list index out of range")

    assert list(packets_of(Container(), None)) == [1, 2, 3, 4]  # type: ignore[arg-type, comparison-overlap]
