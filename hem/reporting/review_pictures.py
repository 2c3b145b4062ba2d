"""Pictures of examples under review: made video by video, a little ahead of the reader, kept on disk."""

import threading
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from hem.artifacts import whole_file
from hem.errors import HemError
from hem.reporting.review_source import Reviewable
from hem.reporting.strips import MarkedBox, frame_strip, marks_of_detections, marks_of_examples
from hem.structures import HardExample, Kind
from hem.video.stream import reread_frames

AROUND = 2  # frames shown before and after the mined one
STRIP, PLACE = "strip", "place"
FORMS = (STRIP, PLACE)
_SIDE, _PLACE_SIDE, _PLACE_CONTEXT = 200, 460, 9.0
_MOST_BYTES = 90_000


class Pictures:
    """Strips (t-2..t+2) and surroundings of examples, by example id.

    Videos are read forward from their beginning, so pictures are made for several examples at once:
    each pass over a video makes all that are wanted of it.

    Args:
        source: what is reviewed.
        folder: where the JPEGs are kept; they may be deleted at any time.
        ahead: how many examples are made beyond the one asked for.
    """

    def __init__(self, source: Reviewable, folder: Path, ahead: int = 24) -> None:
        self._source = source
        self._folder = folder
        self.ahead = ahead
        self._by_id = {example.example_id: example for example in source.examples}
        self._by_frame = source.by_frame()
        self._lock = threading.Lock()
        self._failed: dict[str, str] = {}

    def path(self, example_id: str, form: str) -> Path:
        """Return where a picture is or will be; ``example_id`` must be that of a known example."""
        return self._folder / f"{self._by_id[example_id].example_id}.{form}.jpg"

    def get(self, example_id: str, form: str) -> bytes:
        """Return a picture, making it if needed.

        Raises:
            HemError: if its frames cannot be read.
        """
        path = self.path(example_id, form)
        if not path.is_file():
            self.make([example_id])
        if not path.is_file():
            raise HemError(self._failed.get(example_id, f"no picture of {example_id}"))
        return path.read_bytes()

    def prepare(self, example_ids: Sequence[str]) -> None:
        """Make the pictures of the next examples in the background, if any of the first few is missing."""
        wanted = list(example_ids)[: self.ahead]
        soon = wanted[: max(1, self.ahead // 3)]
        if any(self._missing(one) for one in soon) and not self._lock.locked():
            threading.Thread(target=self.make, args=(wanted,), daemon=True).start()

    def _missing(self, example_id: str) -> bool:
        return example_id not in self._failed and not self.path(example_id, PLACE).is_file()

    def make(self, example_ids: Sequence[str]) -> None:
        """Make the pictures of these examples, reading each video once."""
        with self._lock:
            wanted = [self._by_id[one] for one in example_ids if self._missing(one)]
            for video_id in dict.fromkeys(example.video_id for example in wanted):
                mine = [example for example in wanted if example.video_id == video_id]
                try:
                    self._make(video_id, mine)
                except HemError as error:
                    self._failed |= {example.example_id: str(error) for example in mine}

    def _make(self, video_id: str, examples: Sequence[HardExample]) -> None:
        video = self._source.videos.get(video_id)
        if video is None:
            raise HemError(f"nothing is known of where {video_id} lies")
        found = self._source.detections.get(video_id)
        end = video.n_frames if found is None else found.n_frames
        centres = {example.frame_index for example in examples}
        around = {
            index
            for centre in centres
            for index in range(centre - AROUND, centre + AROUND + 1)
            if index >= 0 and (end is None or index < end)
        }
        try:
            frames = reread_frames(video, around)
        except HemError:  # a neighbour lies beyond the end or in damage: it is shown as a cross
            if len(examples) > 1:
                for example in examples:
                    self._make(video_id, [example])
                return
            frames = reread_frames(video, centres)
        for example in examples:
            self._write(example, frames)

    def _write(self, example: HardExample, frames: dict[int, Tensor]) -> None:
        centre = example.frame_index
        indices = range(centre - AROUND, centre + AROUND + 1)
        marks = [self._marks(example, index) for index in indices]
        strip = frame_strip(
            [frames.get(index) for index in indices],
            marks,
            example.box_xyxy,
            side=_SIDE,
            max_bytes=_MOST_BYTES,
        )
        place = frame_strip(
            [frames.get(centre)], [marks[AROUND]], example.box_xyxy, side=_PLACE_SIDE,
            context=_PLACE_CONTEXT, max_bytes=_MOST_BYTES,
        )  # fmt: skip
        for form, data in ((STRIP, strip), (PLACE, place)):
            with whole_file(self.path(example.example_id, form)) as temporary:
                temporary.write_bytes(data)

    def _marks(self, example: HardExample, index: int) -> list[MarkedBox]:
        """Return the example's box in its own frame, alone and so never in doubt; else detections."""
        video_id = example.video_id
        if index == example.frame_index:
            return marks_of_examples([example])
        found = self._source.detections.get(video_id)
        if found is None or not 0 <= index < found.n_frames:
            others = self._by_frame.get((video_id, index), [])
            return marks_of_examples([one for one in others if one.kind is not Kind.IGNORE])
        return marks_of_detections(found.frame(index), self._source.threshold)
