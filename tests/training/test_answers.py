"""A pass that was broken off goes on: the detector is not asked twice, and the evidence is the same."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hem.artifacts import load_detections
from hem.config import VideoConfig
from hem.detectors.wrapped import WrappedDetector
from hem.errors import HemError
from hem.structures import Detections, FrameBatch, FrameGap, VideoInfo, VideoReport
from hem.structures.evidence import CollectSettings
from hem.training.answers import RememberedAnswers, notes_beside
from hem.training.evidence_pass import run_pass
from hem.training.experiment import Experiment
from hem.training.measure import detect_to, detect_video, made_otherwise
from hem.training.stages import StageStore
from hem.training.video_data import VideoData
from hem.video.manifest import about_frames, scan_videos
from hem.video.writer import write_video

FRAMES = 60
SETTINGS = CollectSettings(variants=("mirror", "noise"), elicit_share=0.5)


class Asked:
    """Says of four places how bright they are; counts pictures, and stops at one of them on request."""

    def __init__(self, stops_at: int | None = None, kind: type[BaseException] = KeyboardInterrupt) -> None:
        self.pictures = 0
        self.stops_at, self.kind = stops_at, kind

    def __call__(self, images: list[torch.Tensor]) -> list[dict]:
        answers = []
        for image in images:
            if self.pictures == self.stops_at:
                raise self.kind
            self.pictures += 1
            places = torch.tensor([[4.0, 4], [40, 4], [4, 40], [40, 40]])
            cells = [image[:, int(y) : int(y) + 16, int(x) : int(x) + 16].mean() for x, y in places]
            boxes = torch.cat([places, places + 16], 1)
            answers.append({"boxes": boxes, "scores": torch.stack(cells)})
        return answers

    def detector(self, name: str = "brightness") -> WrappedDetector:
        return WrappedDetector(self, class_names=("thing",), name=name)


@pytest.fixture
def videos(tmp_path: Path) -> VideoData:
    rng = np.random.default_rng(0)
    for name in ("a.mp4", "b.mp4"):
        pictures = (rng.integers(0, 255, (64, 64, 3), dtype=np.uint8) for _ in range(FRAMES))
        write_video(tmp_path / "videos" / name, pictures, fps=10)
    return VideoData(scan_videos(tmp_path / "videos").videos, VideoConfig(batch_size=7))


def parts(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()
    }


@pytest.fixture
def whole(videos: VideoData, tmp_path: Path) -> tuple[dict[str, bytes], int]:
    asked = Asked()
    run_pass(asked.detector(), videos, SETTINGS, tmp_path / "whole")
    return parts(tmp_path / "whole"), asked.pictures


@pytest.mark.parametrize("stops_at", [0, 5, 37, 150])
def test_an_interrupted_pass_asks_nothing_twice(videos, tmp_path, whole, stops_at) -> None:
    expected, in_all = whole
    assert in_all > 2 * FRAMES and not any(".answers" in name for name in expected)
    asked = Asked(stops_at)
    with pytest.raises(KeyboardInterrupt):
        run_pass(asked.detector(), videos, SETTINGS, tmp_path / "broken")
    again = Asked()
    run_pass(again.detector(), videos, SETTINGS, tmp_path / "broken")
    assert parts(tmp_path / "broken") == expected
    lost = asked.pictures + again.pictures - in_all
    assert 0 <= lost < 7  # the answers of the call that was broken off


def test_a_pass_may_be_broken_off_again_and_again(videos, tmp_path, whole) -> None:
    expected, in_all = whole
    detectors = [Asked(stops_at) for stops_at in (20, 31, 3, 44, None)]
    for asked in detectors[:-1]:
        with pytest.raises(KeyboardInterrupt):
            run_pass(asked.detector(), videos, SETTINGS, tmp_path / "broken")
    run_pass(detectors[-1].detector(), videos, SETTINGS, tmp_path / "broken")
    assert parts(tmp_path / "broken") == expected
    assert sum(one.pictures for one in detectors) - in_all < 7 * len(detectors)


@pytest.mark.parametrize("change", ["batch size", "detector", "floor", "share", "damage", "nothing"])
def test_answers_to_other_questions_are_not_used(videos, tmp_path, whole, change) -> None:
    expected, in_all = whole
    with pytest.raises(KeyboardInterrupt):
        run_pass(
            Asked(50).detector("another" if change == "detector" else "brightness"),
            VideoData(videos.videos, VideoConfig(batch_size=3 if change == "batch size" else 7)),
            CollectSettings(
                variants=SETTINGS.variants,
                elicit_share=0.4 if change == "share" else 0.5,
                floor_score=0.01 if change == "floor" else 0.05,
            ),
            tmp_path / "broken",
        )
    notes = [path for path in tmp_path.glob("broken/.*.answers/*") if path.is_file()]
    assert len(notes) == 1
    if change == "damage":
        notes[0].write_bytes(notes[0].read_bytes()[:-40])
    again = Asked()
    run_pass(again.detector(), videos, SETTINGS, tmp_path / "broken")
    assert parts(tmp_path / "broken") == expected
    assert (again.pictures < in_all) == (change in ("nothing", "batch size"))


def about(pictures: torch.Tensor) -> list[Detections]:
    return [
        Detections(torch.tensor([[0.0, 0, 1 + float(one.double().mean()), 1 / 3]]), [0.1], [1])
        for one in pictures
    ]


class Counting:
    """Answers as ``about`` does, and counts the pictures."""

    def __init__(self) -> None:
        self.pictures = 0

    def __call__(self, pictures: torch.Tensor) -> list[Detections]:
        self.pictures += len(pictures)
        return about(pictures)


def test_answers_are_given_again_exactly_also_those_that_single_precision_cannot_hold(tmp_path) -> None:
    pictures = torch.randint(0, 255, (6, 3, 24, 24), dtype=torch.uint8)
    with RememberedAnswers(tmp_path / "notes", {"a": 1}, about, every_s=0) as first:
        told = [*first(pictures[:4]), *first(pictures[4:])]
    assert len(list((tmp_path / "notes").iterdir())) == 2
    asked = Counting()
    with RememberedAnswers(tmp_path / "notes", {"a": 1}, asked, 20.0) as second:
        again = [*second(pictures[:1]), *second(pictures[1:])]
    assert asked.pictures == 0
    for one, other in zip(told, again, strict=True):
        torch.testing.assert_close(one.boxes_xyxy, other.boxes_xyxy, rtol=0, atol=0)
        torch.testing.assert_close(one.scores, other.scores, rtol=0, atol=0)


def test_pictures_in_which_nothing_was_found_are_not_asked_again_either(tmp_path) -> None:
    pictures = torch.randint(0, 255, (3, 3, 24, 24), dtype=torch.uint8)
    with RememberedAnswers(tmp_path, {}, lambda asked: [Detections.empty()] * len(asked), 20.0) as first:
        first(pictures)
    asked = Counting()
    with RememberedAnswers(tmp_path, {}, asked, 20.0) as second:
        assert [len(one) for one in second(pictures)] == [0, 0, 0]
    assert asked.pictures == 0


def test_where_another_picture_comes_the_rest_is_asked_anew(tmp_path) -> None:
    pictures = torch.randint(0, 255, (6, 3, 24, 24), dtype=torch.uint8)
    with RememberedAnswers(tmp_path, {}, about, every_s=0) as first:
        for one in pictures:
            first(one[None])
    other = pictures.clone()
    other[3] = 255 - other[3]
    asked = Counting()
    with RememberedAnswers(tmp_path, {}, asked, 20.0) as second:
        for one in other:
            second(one[None])
    assert asked.pictures == 3
    asked = Counting()
    with RememberedAnswers(tmp_path, {}, asked, 20.0) as third:
        told = [third(one[None])[0] for one in other]
    assert asked.pictures == 0
    wanted = about(other)
    assert all(torch.equal(a.boxes_xyxy, b.boxes_xyxy) for a, b in zip(told, wanted, strict=True))


def test_an_answer_refused_by_the_detector_leaves_what_came_before(tmp_path) -> None:
    pictures = torch.randint(0, 255, (2, 3, 24, 24), dtype=torch.uint8)

    def refusing(asked: torch.Tensor) -> list[Detections]:
        if torch.equal(asked[0], pictures[1]):
            raise HemError("no memory")
        return about(asked)

    with pytest.raises(HemError, match="no memory"), RememberedAnswers(tmp_path, {}, refusing, 20.0) as first:
        first(pictures[:1])
        first(pictures[1:])
    asked = Counting()
    with RememberedAnswers(tmp_path, {}, asked, 20.0) as second:
        second(pictures[:1])
    assert asked.pictures == 0


def test_detecting_alone_goes_on_too(videos, tmp_path) -> None:
    video, asked, file = videos.videos[0], Asked(31), tmp_path / "a.parquet"
    with pytest.raises(KeyboardInterrupt):
        detect_to(file, asked.detector(), "one", videos, video, 0.05)
    assert not file.exists()
    again = Asked()
    assert detect_to(file, again.detector(), "one", videos, video, 0.05) is None
    assert again.pictures == FRAMES - 28  # four calls of seven had been answered
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["a.parquet"]
    assert not list(tmp_path.glob(".*"))
    found = load_detections(file)
    with videos.source(video) as source:
        expected = detect_video(Asked().detector(), source, 0.05)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.frame_index, expected.frame_index)


def test_what_is_there_is_not_asked_again_and_what_a_kill_left_beside_it_goes(videos, tmp_path) -> None:
    video, file = videos.videos[0], tmp_path / "a.parquet"
    detect_to(file, Asked().detector(), "one", videos, video, 0.05)
    before = file.read_bytes()
    left = notes_beside(file)
    left.mkdir()
    (left / "000000.parquet").write_bytes(b"of a call that was killed before it removed them")
    again = Asked()
    assert detect_to(file, again.detector(), "one", videos, video, 0.05) is None
    assert again.pictures == 0 and file.read_bytes() == before
    assert not left.exists()


def test_a_video_that_ends_in_a_gap_is_as_long_as_it_is() -> None:
    video = VideoInfo("v.mp4", width=64, height=64)
    frames = torch.full((3, 3, 64, 64), 90, dtype=torch.uint8)
    batch = FrameBatch(video, frames, torch.arange(3), torch.arange(3).double())

    class Source:
        def __init__(self) -> None:
            self.video = video

        def __iter__(self):
            yield batch

        def report(self) -> VideoReport:
            return VideoReport(video, (FrameGap(3, 7, "cannot be decoded"),))

    found = detect_video(Asked().detector(), Source(), 0.05)
    assert np.isnan(found.frame_times_s).tolist() == [False] * 3 + [True] * 4


def test_a_file_made_otherwise_is_told_apart(videos, tmp_path) -> None:
    one, other = videos.videos
    file, detector = tmp_path / "a.parquet", Asked().detector()
    detect_to(file, detector, detector.digest(), videos, one, 0.05)
    assert made_otherwise(file, detector.digest(), one, 0.05) is None
    for model, video, floor_score, why in (
        (Asked().detector("other").digest(), one, 0.05, "another detector"),
        (detector.digest(), other, 0.05, "another video"),
        (detector.digest(), one, 0.1, "floor_score=0.05, not 0.1"),
    ):
        assert why in (made_otherwise(file, model, video, floor_score) or "")


def test_predictions_of_a_run_go_on_within_a_video(videos, tmp_path, monkeypatch) -> None:
    said: list[tuple[str, int, int | None]] = []
    stills = [SimpleNamespace(image=torch.full((3, 64, 64), 90, dtype=torch.uint8)) for _ in range(4)]
    monkeypatch.setattr(
        "hem.training.experiment.load_checkpoint", lambda _: SimpleNamespace(digest="weights")
    )

    def predict(asked: Asked, store: str) -> dict[str, bytes]:
        config = SimpleNamespace(
            evaluation=SimpleNamespace(floor_score=0.05, batch_size=2), video=VideoConfig(batch_size=7)
        )
        run = SimpleNamespace(
            config=config,
            parts=SimpleNamespace(
                data=SimpleNamespace(heldout_digest="stills", test=stills),
                heldout=videos.videos,
                progress=lambda *what: said.append(what),
            ),
            store=StageStore(tmp_path / store),
            load=lambda _: asked.detector(),
        )
        folder = Experiment.predictions(run, "baseline", Path("weights.ckpt"))
        return {name: data for name, data in parts(folder).items() if name.endswith(".parquet")}

    expected, before = predict(Asked(), "whole"), 4 + FRAMES + 28
    assert len(expected) == 3 and ("video baseline", 2 * FRAMES, 2 * FRAMES) in said
    with pytest.raises(KeyboardInterrupt):
        predict(Asked(before + 3), "broken")
    again = Asked()
    assert predict(again, "broken") == expected
    assert again.pictures == 4 + 2 * FRAMES - before


def test_about_how_long_it_takes_is_known_beforehand(videos) -> None:
    assert about_frames(videos.videos) == 2 * FRAMES
    assert about_frames([]) is None
