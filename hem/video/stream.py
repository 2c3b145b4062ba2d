"""Frames of many videos, one after the other, in batches; and chosen frames once more."""

import logging
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from hem.artifacts import sha256_known
from hem.errors import HemError
from hem.structures import FrameBatch, FrameGap, VideoInfo, VideoReport
from hem.video.source import Decoder, DeviceChoice, Guard, check_settings, open_source

_log = logging.getLogger(__name__)


class VideoStream(IterableDataset[FrameBatch]):
    """The frames of videos in order; a batch never mixes videos.

    Memory does not grow with length: ``prefetch`` + 2 batches at most are alive at once. Every
    iteration reads all videos from their beginnings. Decoding runs beside the consumer already, so
    a DataLoader around it must have ``batch_size=None, num_workers=0``.

    Args:
        videos: what to read.
        decoder, device, batch_size, stride, guard, stall_s, prefetch, threads: see ``open_source``.
        max_frames: frames read of each video at most (counted before ``stride``); None for all.

    A video that cannot be read is reported (a gap from frame 0, and the error) and the next one
    goes on; if none gives a frame, that is an error.
    """

    def __init__(
        self,
        videos: Sequence[VideoInfo],
        *,
        decoder: Decoder = "auto",
        device: DeviceChoice = "cpu",
        batch_size: int = 8,
        stride: int = 1,
        max_frames: int | None = None,
        guard: Guard = "auto",
        stall_s: float = 30.0,
        prefetch: int = 2,
        threads: int = 0,
    ) -> None:
        check_settings(decoder, device, guard)
        self.videos = tuple(videos)
        self._decoder: Decoder = decoder
        self._device: DeviceChoice = device
        self._batch_size = batch_size
        self._stride = stride
        self._max_frames = max_frames
        self._guard: Guard = guard
        self._stall_s = stall_s
        self._prefetch = prefetch
        self._threads = threads
        self._reports: dict[str, VideoReport] = {}

    @property
    def reports(self) -> dict[str, VideoReport]:
        """How reading each video went, by video id; filled as videos end."""
        return dict(self._reports)

    def __iter__(self) -> Iterator[FrameBatch]:
        if get_worker_info() is not None:
            raise HemError("a VideoStream decodes ahead by itself: use num_workers=0 in its DataLoader")
        self._reports = {}
        anything = False
        for video in self.videos:
            for batch in self.read(video):
                anything = True
                yield batch
        if self.videos and not anything:
            errors = "; ".join(report.error or "no frame" for report in list(self._reports.values())[:5])
            raise HemError(f"none of the {len(self.videos)} videos gave a frame: {errors}")

    def read(self, video: VideoInfo) -> Iterator[FrameBatch]:
        """Yield the batches of one video and keep its report."""
        try:
            source = open_source(
                video,
                self._decoder,
                self._device,
                self._batch_size,
                end_frame=self._max_frames,
                stride=self._stride,
                guard=self._guard,
                stall_s=self._stall_s,
                prefetch=self._prefetch,
                threads=self._threads,
            )
        except HemError as error:
            self._keep(VideoReport(video, (FrameGap(0, None, str(error)),), str(error)))
            return
        with source:
            yield from source
            self._keep(source.report())

    def _keep(self, report: VideoReport) -> None:
        self._reports[report.video.video_id] = report
        if report.error is not None:
            _log.warning("%s: %s", report.video.video_id, report.error)


def shard_videos(videos: Sequence[VideoInfo], rank: int, world_size: int) -> list[VideoInfo]:
    """Return this rank's videos: whole videos, dealt so that ranks get about the same work.

    Work is frames times pixels where the frame count is known for all, else bytes of the file. The
    longest goes first to the rank with the least so far (ties: lower rank, earlier id); each rank
    reads its own in the given order. Every video is in exactly one shard.

    Raises:
        HemError: unless 0 <= rank < world_size.
    """
    if not 0 <= rank < world_size:
        raise HemError(f"rank {rank} is not in 0..{world_size - 1}")
    sizes = _sizes(videos)
    loads = [0.0] * world_size
    owner = [0] * len(videos)
    for index in sorted(range(len(videos)), key=lambda i: (-sizes[i], videos[i].video_id)):
        owner[index] = loads.index(min(loads))
        loads[owner[index]] += sizes[index]
    return [video for index, video in enumerate(videos) if owner[index] == rank]


def _sizes(videos: Sequence[VideoInfo]) -> list[float]:
    if all(video.n_frames is not None for video in videos):
        return [float((video.n_frames or 0) * max(1, video.width * video.height)) for video in videos]
    paths = [Path(video.path) for video in videos]
    return [float(path.stat().st_size) if path.is_file() else 0.0 for path in paths]


def reread_frames(video: VideoInfo, frame_indices: Collection[int]) -> dict[int, Tensor]:
    """Return chosen frames by number, uint8 (3, H, W) on the CPU; see frames_again."""
    return dict(frames_again(video, frame_indices))


def frames_again(
    video: VideoInfo,
    frame_indices: Collection[int],
    decoder: Decoder = "auto",
    device: DeviceChoice = "cpu",
    *,
    guard: Guard = "auto",
    stall_s: float = 30.0,
    threads: int = 0,
) -> Iterator[tuple[int, Tensor]]:
    """Yield chosen frames, each with its number, uint8 (3, H, W) on the CPU, as a stream gave them.

    By the same decoder on the same device, the pixels are the same; only where they lie differs.

    Reads forward from the beginning up to the last of them, once, converting only these: no seek, since
    decoders miss after seeks. Duplicates are read once. However many are chosen, a few are held at a time.

    Raises:
        HemError: if a number is negative or the file holds another content than ``video.digest`` says, before
            anything is read; or, behind the frames that can be read,
            if one lies in a gap or beyond the end. It names both.
    """
    wanted = sorted(set(frame_indices))
    if not wanted:
        return
    if wanted[0] < 0:
        raise HemError(f"{video.video_id}: frame numbers start at 0, got {wanted[0]}")
    _refuse_another(video)
    read = set()
    with open_source(
        video,
        decoder,
        device,
        1,
        end_frame=wanted[-1] + 1,
        only=wanted,
        guard=guard,
        stall_s=stall_s,
        threads=threads,
    ) as source:
        for batch in source:
            index = int(batch.frame_indices[0])
            read.add(index)
            yield index, batch.frames[0].cpu().contiguous()
        report = source.report()
    lost = [index for index in wanted if index not in read]
    if lost:
        why = report.error or "; ".join(gap.reason for gap in report.gaps) or "the video is shorter"
        raise HemError(f"{video.video_id}: frames {lost[:5]} cannot be read again ({why})")


def _refuse_another(video: VideoInfo) -> None:
    path = Path(video.path)
    if video.digest and path.is_file() and sha256_known(path) != video.digest:
        raise HemError(
            f"{video.video_id}: {path} is not the video that was read before, by its content: put that one "
            "back, or begin anew with this one (into another output_dir)"
        )
