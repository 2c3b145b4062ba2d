"""One way to read a video, whatever decodes it: ``open_source``."""

import logging
from array import array
from collections.abc import Callable, Collection, Generator, Iterator
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from hem.errors import HemError
from hem.ops.ahead import Item, ahead
from hem.structures import FrameBatch, FrameGap, GreyBatch, VideoInfo, VideoReport
from hem.video.grouping import FrameGroup, grey_picture
from hem.video.guarded import GuardedReader
from hem.video.image_folder_source import ImageFolderReader
from hem.video.reader import ChainReader, FrameReader, RawFrame, Selection, load_reader, timed_frames
from hem.video.torchcodec_source import missing_for_cuda

Decoder = Literal["auto", "decord", "pyav", "torchcodec"]
DeviceChoice = Literal["cpu", "cuda", "auto"]
Guard = Literal["auto", "always", "never"]

DECORD = "hem.video.decord_source:DecordReader"
PYAV = "hem.video.pyav_source:PyavReader"
TORCHCODEC = "hem.video.torchcodec_source:TorchcodecReader"
_CPU_CHAIN = {"auto": (PYAV,), "pyav": (PYAV,), "decord": (DECORD, PYAV), "torchcodec": (TORCHCODEC, PYAV)}

_log = logging.getLogger(__name__)


class FrameSource:
    """The selected frames of one video, in order, as FrameBatch; read once, forward.

    ``frames`` of each batch is a uint8 (B, 3, H, W) view of an array stored row by row as
    (B, H, W, 3), so it is not contiguous: decoders give pixels that way, and reordering 720p
    frames costs as much as decoding them. Call ``.contiguous()`` where the layout matters.

    Args:
        video: what is read.
        reader: opened reader of that video.
        batch_size: frames in a batch, >= 1; only the last one may be smaller.
        device: where batches are put.
        prefetch: batches decoded ahead in a thread, 0 for none. More takes memory, not time.
        grey: give frames as uint8 (B, 1, H, W), by OpenCV's conversion, made where the pixels are fresh;
            or, by ``grey_batches``, made where they are looked at.
    """

    def __init__(
        self,
        video: VideoInfo,
        reader: FrameReader,
        batch_size: int,
        device: torch.device,
        prefetch: int = 2,
        grey: bool = False,
    ) -> None:
        if batch_size < 1 or prefetch < 0:
            raise HemError(f"batch_size must be >= 1 and prefetch >= 0, got {batch_size} and {prefetch}")
        self.video = video
        self._reader = reader
        self._batch_size = batch_size
        self._device = device
        self._prefetch = prefetch
        self._grey = grey
        reader.planar = grey
        self._numbers, self._times_s = array("q"), array("d")  # of each frame read: small, as videos are long
        self._started = False
        self._iterator: Generator[Any, None, None] | None = None

    def __iter__(self) -> Iterator[FrameBatch]:
        return self._start(self._batches())

    def grey_batches(self) -> Iterator[GreyBatch]:
        """Return the frames in grey, made only where they are looked at if the decoder can do so.

        Raises:
            HemError: if the source was not opened with ``grey``.
        """
        if not self._grey:
            raise HemError(f"{self.video.video_id}: grey pictures need a source opened with grey=True")
        return self._start(self._grey_batches())

    def _start(self, batches: "Generator[Item, None, None]") -> "Generator[Item, None, None]":
        if self._started:
            raise RuntimeError(f"{self.video.video_id}: a frame source is read once; open another one")
        self._started = True
        iterator = ahead(batches, self._prefetch) if self._prefetch else batches
        self._iterator = iterator
        return iterator

    def report(self) -> VideoReport:
        """Return how reading went; ``video.n_frames`` is None unless the end was reached."""
        reader = self._reader
        video = VideoInfo(
            self.video.video_id,
            self.video.digest,
            self.video.path,
            self.video.width,
            self.video.height,
            self.video.fps,
            reader.n_frames,
        )
        return VideoReport(video, tuple(FrameGap(*gap) for gap in reader.gaps), reader.error)

    def times_s(self, n_frames: int) -> NDArray[np.float64]:
        """Return float64 (n_frames,): the time of each frame decoded so far, NaN for the others.

        Frames that were not selected have theirs too, unless a guarded decoder read them.
        """
        numbers = np.array(self._numbers, dtype=np.int64)
        here = numbers < n_frames
        times = np.full(n_frames, np.nan)
        times[numbers[here]] = np.array(self._times_s, dtype=np.float64)[here]
        return times

    def has_read(self, frame_index: int) -> bool:
        """Whether this frame or a later one was decoded so far."""
        return any(number >= frame_index for number in self._numbers[-1:])

    @property
    def notes(self) -> tuple[str, ...]:
        """What was repaired or done otherwise than asked, one sentence each."""
        return tuple(self._reader.notes)

    def close(self) -> None:
        """Stop decoding and free everything; harmless when called twice."""
        if self._iterator is not None:
            self._iterator.close()  # ends the decoding thread before its file is closed
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _batches(self) -> Generator[FrameBatch, None, None]:
        group = FrameGroup(self.video, self._batch_size, self._device, self._grey)
        for frame in self._frames():
            if group.add(frame):
                yield group.batch()
        if len(group):
            yield group.batch()

    def _grey_batches(self) -> Generator[GreyBatch, None, None]:
        frames = self._frames()
        while part := [
            (grey_picture(frame.pixels), frame.frame_index, float(frame.time_s or 0.0))
            for frame in islice(frames, self._batch_size)
        ]:
            yield GreyBatch(self.video, *zip(*part, strict=True))

    def _frames(self) -> Iterator[RawFrame]:
        """Yield the frames selected."""
        for frame in timed_frames(self._reader):
            self._numbers.append(frame.frame_index)
            self._times_s.append(float(frame.time_s or 0.0))
            if frame.pixels is not None:
                yield frame
        for note in self._reader.notes:
            _log.info("%s: %s", self.video.video_id, note)


def open_source(
    video: VideoInfo,
    decoder: Decoder = "auto",
    device: DeviceChoice = "cpu",
    batch_size: int = 8,
    *,
    start_frame: int = 0,
    end_frame: int | None = None,
    stride: int = 1,
    only: Collection[int] | None = None,
    guard: Guard = "auto",
    stall_s: float = 30.0,
    prefetch: int = 2,
    threads: int = 0,
    grey: bool = False,
) -> FrameSource:
    """Open a video for reading from its beginning to its end.

    Args:
        video: from ``scan_videos`` or ``frames_as_video``; ``path`` may be a file or a folder of images.
        decoder: ``auto`` takes torchcodec for cuda, else PyAV (see experiments/benchmarks/decode_rate.py
            for why). decord hands files that it gets wrong to PyAV and notes it.
        device: ``cuda`` decodes on the GPU and is an error where that cannot be; ``auto`` does so
            where it can and logs why where it cannot; ``cpu`` never.
        batch_size: frames in a batch. Changes no result.
        start_frame, end_frame, stride, only: see Selection. Frames before ``start_frame`` are decoded
            and dropped: seeking is not exact.
        guard: ``always`` decodes in a process that is ended when it hangs; ``never`` in this one;
            ``auto`` guards decord only, which is known to hang.
        stall_s: seconds without a frame after which a guarded decoder counts as hanging, > 0. Lower
            ends a hang sooner, but may end a slow machine's honest work.
        prefetch: batches decoded ahead.
        threads: decoding threads, 0 = the library's choice. Changes no frame numbers, times or gaps, and
            no pixels of sound files; frames with damage that the decoder did not notice may differ.
        grey: see FrameSource; for readers that need no colour.

    Raises:
        HemError: for an unknown choice, a file that is absent or unreadable, a decoder that is not
            installed, or ``device=cuda`` without what it needs.
    """
    check_settings(decoder, device, guard)
    selection = Selection(start_frame, end_frame, stride, None if only is None else frozenset(only))
    if not Path(video.path).exists() or not video.path:
        raise HemError(f"{video.video_id}: {video.path or 'its file'} is not there")
    where = _torch_device(device)
    if Path(video.path).is_dir():
        folder = ImageFolderReader(video.path, video.fps, selection)
        return FrameSource(video, folder, batch_size, where, prefetch, grey)
    guarded = guard == "always" or (guard == "auto" and decoder == "decord")
    openers: list[tuple[str, Callable[[Selection], FrameReader]]] = []
    if _decodes_on_gpu(decoder, device):
        openers.append((f"{TORCHCODEC} on the GPU", partial(_open_on_gpu, video)))
    for name in _CPU_CHAIN[decoder]:
        opener = partial(_open_guarded, name, stall_s) if guarded else partial(_open_here, name)
        openers.append((name, partial(opener, video, threads)))
    reader = ChainReader(video.path, video.fps, selection, openers)
    return FrameSource(video, reader, batch_size, where, 0 if guarded else prefetch, grey)


def check_settings(decoder: str, device: str, guard: str) -> None:
    """Raise HemError for an unknown choice, or one that cannot work on this machine whatever the file."""
    for name, value, choices in (
        ("decoder", decoder, get_args(Decoder)),
        ("device", device, get_args(DeviceChoice)),
        ("guard", guard, get_args(Guard)),
    ):
        if value not in choices:
            raise HemError(f"video.{name}={value!r} is not known; choose one of {', '.join(choices)}")
    if decoder in ("decord", "torchcodec") and find_spec(decoder) is None:
        raise HemError(
            f"video.decoder={decoder} needs the package {decoder}, which is not installed; "
            "install it, or choose decoder=auto"
        )
    if device == "cuda" and decoder in ("auto", "torchcodec"):
        missing = missing_for_cuda()
        if missing is not None:
            raise HemError(f"video.device=cuda cannot decode on a GPU here: {missing}; or use device=auto")
    _torch_device(device)


def decoded_on(decoder: str, device: str) -> Literal["cpu", "cuda"]:
    """Return where ``open_source`` decodes on this machine.

    All decoders give the same pixels on the CPU; a GPU's differ a little. So this names the pixels, as far
    as they differ.
    """
    if device == "cpu" or decoder in ("decord", "pyav") or missing_for_cuda() is not None:
        return "cpu"
    return "cuda"


def _decodes_on_gpu(decoder: str, device: str) -> bool:
    if device == "cpu" or decoder in ("decord", "pyav"):
        return False
    missing = missing_for_cuda()
    if missing is not None:
        _log.warning("video.device=%s decodes on the CPU: %s", device, missing)
    return missing is None


def _open_on_gpu(video: VideoInfo, selection: Selection) -> FrameReader:
    from hem.video.torchcodec_source import TorchcodecReader

    return TorchcodecReader(video.path, video.fps, selection, device="cuda")


def _open_here(name: str, video: VideoInfo, threads: int, selection: Selection) -> FrameReader:
    return load_reader(name)(video.path, video.fps, selection, threads)


def _open_guarded(
    name: str, stall_s: float, video: VideoInfo, threads: int, selection: Selection
) -> FrameReader:
    return GuardedReader(name, video.path, video.fps, selection, stall_s=stall_s, threads=threads)


def _torch_device(device: str) -> torch.device:
    if device == "cuda" and not torch.cuda.is_available():
        raise HemError("video.device=cuda, but torch sees no CUDA device here; use video.device=cpu or auto")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
