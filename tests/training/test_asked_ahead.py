"""A pass begins the next batch before the last is answered, and nothing but the time it takes tells so."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from hem.artifacts import load_detections
from hem.config import VideoConfig
from hem.detectors.retinanet import RetinaNet
from hem.errors import HemError
from hem.ops.ahead import asked_ahead
from hem.structures import Detections, FrameBatch, VideoInfo
from hem.structures.evidence import CollectSettings
from hem.training.evidence_pass import run_pass
from hem.training.measure import detect_to
from hem.training.video_data import VideoData
from hem.video.manifest import scan_videos
from hem.video.writer import write_video

FRAMES, BATCH = 60, 7
SETTINGS = CollectSettings(variants=("mirror", "noise"), elicit_share=0.5)


def brightness(pictures: torch.Tensor) -> list[Detections]:
    """Say of four places of each picture how bright they are."""
    places = torch.tensor([[4.0, 4], [40, 4], [4, 40], [40, 40]])
    boxes, labels = torch.cat([places, places + 16], 1).double(), torch.ones(4, dtype=torch.int64)
    found = []
    for one in pictures:
        cells = [one[:, int(y) : int(y) + 16, int(x) : int(x) + 16].double().mean() for x, y in places]
        found.append(Detections(boxes, torch.stack(cells) / 255, labels))
    return found


class Plain:
    """A detector that is asked by ``detect``."""

    class_names, score_range = ("thing",), (0.0, 1.0)

    def __init__(self) -> None:
        self.asked = 0

    def digest(self) -> str:
        return "brightness"

    def detect(self, pictures: torch.Tensor, floor_score: float) -> list[Detections]:
        self.asked += len(pictures)
        return brightness(pictures)


class Ahead(Plain):
    """The same, asked ahead; it notes what is begun and what is answered, and stops where it is told to."""

    def __init__(self, stops_at: int | None = None) -> None:
        super().__init__()
        self.notes: list[tuple[str, int]] = []
        self.begun, self.stops_at = 0, stops_at

    def detect(self, pictures: torch.Tensor, floor_score: float) -> list[Detections]:
        raise AssertionError("asked by its detect")

    @contextmanager
    def asking(self, floor_score: float) -> Iterator["Ahead"]:
        assert floor_score == SETTINGS.floor_score
        yield self

    def __call__(self, pictures: torch.Tensor) -> list[Detections]:
        return self.begin(pictures)()

    def begin(self, pictures: torch.Tensor) -> Callable[[], list[Detections]]:
        number, self.begun = self.begun, self.begun + 1
        self.notes.append(("begun", number))

        def finish() -> list[Detections]:
            if number == self.stops_at:
                raise KeyboardInterrupt
            self.notes.append(("answered", number))
            self.asked += len(pictures)
            return brightness(pictures)

        return finish


@pytest.fixture
def videos(tmp_path: Path) -> VideoData:
    rng = np.random.default_rng(0)
    pictures = (rng.integers(0, 255, (64, 64, 3), dtype=np.uint8) for _ in range(FRAMES))
    write_video(tmp_path / "a.mp4", pictures, fps=10)
    return VideoData(scan_videos(tmp_path / "a.mp4").videos, VideoConfig(batch_size=BATCH))


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_evidence_is_the_same_and_the_next_batch_is_begun_first(videos, tmp_path) -> None:
    plain, ahead = Plain(), Ahead()
    run_pass(plain, videos, SETTINGS, tmp_path / "plain")  # type: ignore[arg-type]
    run_pass(ahead, videos, SETTINGS, tmp_path / "ahead")  # type: ignore[arg-type]
    assert files(tmp_path / "plain") == files(tmp_path / "ahead")
    assert ahead.asked == plain.asked > FRAMES
    assert ahead.notes[:3] == [("begun", 0), ("begun", 1), ("answered", 0)]
    simple, many = CollectSettings(), Ahead()
    run_pass(many, videos, simple, tmp_path / "simple")  # type: ignore[arg-type]
    batches = -(-FRAMES // BATCH)
    assert many.notes == [
        *[("begun", 0)],
        *(note for at in range(1, batches) for note in (("begun", at), ("answered", at - 1))),
        *[("answered", batches - 1)],
    ]


@pytest.mark.parametrize("stops_at", [0, 1, 4, 11])
def test_a_pass_that_was_broken_off_goes_on(videos, tmp_path, stops_at) -> None:
    whole, broken, again = Ahead(), Ahead(stops_at), Ahead()
    run_pass(whole, videos, SETTINGS, tmp_path / "whole")  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        run_pass(broken, videos, SETTINGS, tmp_path / "broken")  # type: ignore[arg-type]
    run_pass(again, videos, SETTINGS, tmp_path / "broken")  # type: ignore[arg-type]
    assert files(tmp_path / "broken") == files(tmp_path / "whole")
    # what was told is not asked again, and not begun either
    assert broken.asked + again.asked == whole.asked
    assert again.begun == again.notes[-1][1] + 1 <= whole.begun - stops_at + 1


def test_detecting_alone_is_asked_ahead_too(videos, tmp_path) -> None:
    ahead, video = Ahead(), videos.videos[0]
    for detector, name in ((Plain(), "plain"), (ahead, "ahead")):
        file = tmp_path / f"{name}.parquet"
        assert detect_to(file, detector, "one", videos, video, SETTINGS.floor_score) is None  # type: ignore[arg-type]
    assert ahead.notes[:3] == [("begun", 0), ("begun", 1), ("answered", 0)]
    one, other = (load_detections(tmp_path / f"{name}.parquet") for name in ("plain", "ahead"))
    assert len(one) == 4 * FRAMES
    np.testing.assert_array_equal(one.scores, other.scores)
    np.testing.assert_array_equal(one.frame_index, other.frame_index)


@pytest.mark.parametrize("variants", [(), SETTINGS.variants])
def test_a_network_gives_the_same_evidence_with_one_thread_and_with_two(videos, tmp_path, variants) -> None:
    torch.manual_seed(0)
    network = RetinaNet(
        class_names=("thing",), backbone="mobilenetv3_small_050", strides=(8, 16), fpn_channels=16,
        extra_levels="none", min_size=96, max_size=96, bn_momentum=0.1, head_convs=1, head_norm="group",
    ).eval()  # fmt: skip
    settings = CollectSettings(floor_score=0.0, variants=variants, elicit_share=0.3)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            run_pass(network, videos, settings, tmp_path / str(threads))
        finally:
            assert torch.get_num_threads() == threads
            torch.set_num_threads(1)
    assert files(tmp_path / "1") == files(tmp_path / "2")
    assert len(load_detections(next(tmp_path.glob("1/*/detections.parquet")))) > FRAMES


def batch_of(count: int, first: int = 0) -> FrameBatch:
    numbers = torch.arange(first, first + count)
    return FrameBatch(VideoInfo("v"), numbers[:, None, None, None].byte(), numbers, numbers.double())


def test_an_answer_that_cannot_be_given_is_raised_behind_those_before_it() -> None:
    class Refusing:
        def __call__(self, frames: torch.Tensor) -> list[Detections]:
            raise AssertionError

        def begin(self, frames: torch.Tensor) -> Callable[[], list[Detections]]:
            def finish() -> list[Detections]:
                if int(frames[0]) == 2:
                    raise HemError("no room")
                return [Detections.empty()] * len(frames)

            return finish

    seen = []
    with pytest.raises(HemError, match="no room"):
        for batch, answers in asked_ahead([batch_of(2), batch_of(2, 2), batch_of(2, 4)], Refusing()):
            seen.append((int(batch.frame_indices[0]), len(answers)))
    assert seen == [(0, 2)]
    assert list(asked_ahead([], Refusing())) == []


def test_without_a_way_to_begin_each_batch_is_asked_when_it_is_its_turn() -> None:
    notes: list[object] = []

    def batches() -> Iterator[FrameBatch]:
        for first in (0, 2):
            notes.append(first)
            yield batch_of(2, first)

    for batch, _ in asked_ahead(batches(), lambda frames: notes.append("asked") or []):  # type: ignore[func-returns-value]
        notes.append(("seen", int(batch.frame_indices[0])))
    assert notes == [0, "asked", ("seen", 0), 2, "asked", ("seen", 2)]
