"""Videos and how they are read: what mining needs of a data module, without Lightning."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from hem.config import VideoConfig
from hem.structures import VideoInfo
from hem.video.source import FrameSource, decoded_on, open_source
from hem.video.stream import frames_again


class Videos:
    """Some videos, each opened when it is asked for.

    Args:
        videos: what to read, in this order.
        settings: decoder, device of the frames, batch size, how hangs are ended.
    """

    def __init__(self, videos: Sequence[VideoInfo], settings: VideoConfig) -> None:
        self.videos = tuple(videos)
        self.settings = settings

    def source(self, video: VideoInfo, grey: bool = False) -> FrameSource:
        """Open one video, in colour or in grey; the caller closes it."""
        return open_source(video, **self.options(), grey=grey)

    @property
    def pixels(self) -> str:
        """Whose pixels frames are made of, see hem.video.source.decoded_on."""
        return decoded_on(self.settings.decoder, self.settings.device)

    def options(self) -> dict[str, Any]:
        """Return the settings as arguments of hem.video."""
        names = ("decoder", "device", "batch_size", "guard", "stall_s")
        return {name: getattr(self.settings, name) for name in names}

    def reread(self, video: VideoInfo, frame_indices: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """Yield chosen frames again with their numbers, uint8 (3, H, W), the pixels they were mined from.

        Decoded where they were then, as a GPU's pixels differ a little, and under the same guard: a file
        that hangs its decoder would do so again here.

        Raises:
            HemError: see frames_again.
        """
        settings = self.settings
        return frames_again(
            video,
            frame_indices,
            settings.decoder,
            settings.device,
            guard=settings.guard,
            stall_s=settings.stall_s,
        )
