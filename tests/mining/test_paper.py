"""The published rule: against a slow literal reading, at every boundary, and on published-program output."""

import json
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from hem.errors import HemError
from hem.mining.collect import collect_evidence
from hem.mining.paper import PaperJudge, PaperThresholds, has_template, mine_paper, paper_work, query_paper
from hem.mining.sources import read_authors_text
from hem.mining.stream import stream_paper
from hem.structures import FrameBatch, Kind, VideoDetections, VideoInfo
from hem.structures.evidence import CollectSettings


def make_video(rng, n_frames=16, width=150, height=120):
    """A textured background with patches that move, appear and vanish."""
    base = cv2.resize(rng.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8), (width, height))
    patches = [cv2.resize(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8), (26, 26)) for _ in range(3)]
    starts = rng.uniform(20, 80, (3, 2))
    speeds = rng.uniform(-3, 3, (3, 2))
    frames, places = [], []
    for t in range(n_frames):
        picture = np.clip(base.astype(int) + rng.integers(-12, 13, base.shape), 0, 255).astype(np.uint8)
        here = []
        for k in range(3):
            x, y = (int(v) for v in np.clip(starts[k] + speeds[k] * t, 0, (width - 27, height - 27)))
            if rng.random() < 0.85:
                picture[y : y + 26, x : x + 26] = patches[k]
            here.append((x, y))
        frames.append(picture)
        places.append(here)
    return frames, places


def make_detections(rng, places, width=150, height=120, labels=1):
    frame, boxes, scores, classes = [], [], [], []
    for t, here in enumerate(places):
        for x, y in here:
            if rng.random() < 0.6:
                size = rng.choice([24.0, 25.5, 27.25])
                left, top = x + rng.choice([0.0, 0.5, -1.25]), y + rng.choice([0.0, 0.75])
                boxes.append([left, top, left + size, top + size])
                frame.append(t)
                scores.append(rng.choice([0.3, 0.5, 0.6, 0.7, 0.75, 0.9, 0.95]))
                classes.append(int(rng.integers(1, labels + 1)))
        if rng.random() < 0.5:
            left, top = rng.uniform(5, 90, 2)
            boxes.append([left, top, left + 20, top + 22])
            frame.append(t)
            scores.append(rng.uniform(0.4, 0.99))
            classes.append(int(rng.integers(1, labels + 1)))
    return VideoDetections(
        video=VideoInfo("clip.mp4", digest="ab" * 32, width=width, height=height, fps=10.0),
        frame_index=np.array(frame),
        boxes_xyxy=np.array(boxes),
        scores=np.array(scores),
        labels=np.array(classes),
        frame_times_s=np.arange(len(places)) / 10.0,
    )


def literal(frames, found, s):
    """Section by section, one box at a time, nothing clever."""

    def iou(a, b):
        x1, y1, x2, y2 = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
        if x2 < x1 or y2 < y1:
            return 0.0
        common = (x2 - x1 + 1) * (y2 - y1 + 1)
        size = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
        return common / (size[0] + size[1] - common)

    greys = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    n, (height, width) = found.n_frames, greys[0].shape
    result = set()
    for label in set(found.labels.tolist()):
        boxes = [[] for _ in range(n)]
        for row in range(len(found)):
            if found.scores[row] >= s.score_threshold and found.labels[row] == label:
                boxes[found.frame_index[row]].append((row, found.boxes_xyxy[row].tolist()))
        for t in range(n):
            if t - s.window + 1 < 0 or t + s.window >= n:
                continue
            for row, box in boxes[t]:
                left, top, right, bottom = box
                if found.scores[row] >= s.max_score:
                    continue
                if (right - left + 1) * (bottom - top + 1) < s.min_area:
                    continue
                margin = s.border_margin
                if left < margin or top < margin or right >= width - margin or bottom >= height - margin:
                    continue
                template = greys[t][int(top) : int(bottom), int(left) : int(right)]
                w, h, cx, cy = right - left + 1, bottom - top + 1, (left + right) / 2, (top + bottom) / 2
                x0 = int(max(0, cx - w / 2 - s.search_margin))
                x1 = int(min(width - 1, cx + w / 2 + s.search_margin))
                y0 = int(max(0, cy - h / 2 - s.search_margin))
                y1 = int(min(height - 1, cy + h / 2 + s.search_margin))
                sides = []
                for sign in (-1, 1):
                    isolated = True
                    for step in range(1, s.window + 1):
                        other = t + sign * step
                        if not 0 <= other < n or not boxes[other]:
                            continue
                        if not template.size:
                            isolated = False
                            break
                        region = greys[other][y0 : y1 + 1, x0 : x1 + 1]
                        scores = cv2.matchTemplate(region, template, cv2.TM_CCOEFF_NORMED)
                        at = int(scores.argmax())
                        if scores.flat[at] < s.ncc_threshold:
                            isolated = False
                            break
                        y, x = divmod(at, scores.shape[1])
                        tracked = (x0 + x, y0 + y, x0 + x + template.shape[1], y0 + y + template.shape[0])
                        if any(max(iou(b, tracked), iou(b, box)) > s.iou_threshold for _, b in boxes[other]):
                            isolated = False
                            break
                    sides.append(isolated)
                if all(sides):
                    result.add(row)
    return result


def reader(frames):
    return lambda wanted: ((t, frames[t]) for t in np.flatnonzero(wanted).tolist() if t < len(frames))


def batches(found, frames, size=5):
    for start in range(0, len(frames), size):
        part = np.stack(frames[start : start + size])
        index = torch.arange(start, start + len(part))
        pictures = torch.from_numpy(part).permute(0, 3, 1, 2)
        yield FrameBatch(found.video, pictures, index, index.double() / found.video.fps)


def negatives(table):
    return set(table.row[table.of_kind(Kind.HARD_NEGATIVE)].tolist())


def random_settings(rng):
    return PaperThresholds(
        score_threshold=float(rng.choice([0.5, 0.6, 0.7, 0.75])),
        max_score=float(rng.choice([0.9, 0.95, 2.0])),
        window=int(rng.integers(1, 5)),
        search_margin=12.0,
        ncc_threshold=float(rng.choice([0.2, 0.5, 0.8])),
        iou_threshold=float(rng.choice([0.1, 0.2, 0.35, 0.5])),
        min_area=float(rng.choice([0.0, 500.0, 26.5 * 26.5])),
        border_margin=float(rng.choice([0.0, 5.0, 20.0])),
    )


COLLECT = CollectSettings(
    floor_score=0.0,
    search_margin=12.0,
    box_margin=None,
    window=4,
    max_gap=0,
    paper_score_threshold=(0.5, 0.75),
    paper_iou_threshold=(0.1, 0.5),
    paper_min_area=0.0,
    paper_border_margin=0.0,
)


@pytest.mark.parametrize("seed", range(6))
def test_stream_and_evidence_equal_the_literal_reading(seed):
    rng = np.random.default_rng(seed)
    frames, places = make_video(rng)
    found = make_detections(rng, places, labels=2 if seed % 2 else 1)
    evidence = collect_evidence(batches(found, frames), found, settings=COLLECT)
    total = 0
    for _ in range(12):
        settings = random_settings(rng)
        expected = literal(frames, found, settings)
        total += len(expected)
        streamed = stream_paper(PaperJudge(found, settings), reader(frames))
        answered = query_paper(evidence, settings)
        assert negatives(streamed) == expected
        assert negatives(answered) == expected
        assert [e.example_id for e in streamed.examples()] == [e.example_id for e in answered.examples()]
    assert total > 0  # otherwise nothing was compared


def thinned(rng, found):
    """A third of the boxes without a whole pixel across or down, and a detection in few of the frames."""
    kept = np.flatnonzero(rng.random(found.n_frames)[found.frame_index] < 0.4)
    boxes = found.boxes_xyxy[kept]
    for row in np.flatnonzero(rng.random(len(kept)) < 0.4).tolist():
        side = int(rng.integers(2))
        boxes[row, side] = np.floor(boxes[row, side]) + rng.choice([0.0, 0.1])
        boxes[row, 2 + side] = np.floor(boxes[row, side]) + rng.choice([0.1, 0.4, 0.9, 1.0])
    columns = {name: getattr(found, name)[kept] for name in ("frame_index", "scores", "labels")}
    return replace(found, boxes_xyxy=boxes, **columns)


@pytest.mark.parametrize("seed", range(3))
def test_boxes_thinner_than_a_pixel_equal_the_literal_reading(seed):
    rng = np.random.default_rng(50 + seed)
    frames, places = make_video(rng, n_frames=24)
    alone = met = 0
    for _ in range(8):
        found = thinned(rng, make_detections(rng, places, labels=2))
        evidence = collect_evidence(batches(found, frames), found, settings=COLLECT)
        settings = replace(random_settings(rng), max_score=2.0, window=int(rng.integers(1, 4)), min_area=0.0)
        expected = literal(frames, found, settings)
        assert negatives(stream_paper(PaperJudge(found, settings), reader(frames))) == expected
        assert negatives(query_paper(evidence, settings)) == expected
        judge = PaperJudge(found, settings)
        empty = {row for row in judge.work.undecided.tolist() if not has_template(found.boxes_xyxy)[row]}
        alone, met = alone + len(empty & expected), met + len(empty - expected)
    assert alone and met  # both ways out were taken


@pytest.mark.parametrize(("others", "negative"), [((), True), ((13,), False), ((16,), True)])
def test_without_a_pixel_to_look_for_only_frames_without_detections_leave_it_isolated(others, negative):
    found = one_box(box=(60.0, 60.0, 60.4, 99.0))
    far = [[150.0, 60.0, 199.0, 99.0]] * len(others)
    boxes = np.array([[60.0, 60.0, 60.4, 99.0], *far])
    found = replace(
        found,
        frame_index=np.array([10, *others]),
        boxes_xyxy=boxes,
        scores=np.array([0.9, *[2.0] * len(others)]),  # no candidates of their own
        labels=np.ones(len(boxes), dtype=np.int64),
    )
    settings = PaperThresholds(min_area=0.0, max_score=2.0, ncc_threshold=-1.0)
    judge = PaperJudge(found, settings)
    assert not judge.frames_needed.any()
    assert (0 in negatives(stream_paper(judge, lambda wanted: iter(())))) is negative


def test_threads_and_batches_do_not_change_the_result():
    rng = np.random.default_rng(20)
    frames, places = make_video(rng)
    found = make_detections(rng, places)
    settings = replace(random_settings(rng), score_threshold=0.5, min_area=0.0, border_margin=0.0)
    one = stream_paper(PaperJudge(found, settings), reader(frames), threads=1)
    assert [e for e in one.examples()] == [
        e for e in stream_paper(PaperJudge(found, settings), reader(frames)).examples()
    ]
    tables = [
        collect_evidence(batches(found, frames, size), found, settings=COLLECT, threads=threads).neighbours
        for size, threads in ((1, 1), (7, 3))
    ]
    for name in ("candidate", "offset", "ncc", "tracked_xyxy"):
        np.testing.assert_array_equal(getattr(tables[0], name), getattr(tables[1], name))


def one_box(box=(50.0, 50.0, 89.0, 89.0), score=0.8, n_frames=20, at=10, size=(300, 200)):
    return VideoDetections(
        video=VideoInfo("one.mp4", width=size[0], height=size[1], fps=10.0),
        frame_index=np.array([at]),
        boxes_xyxy=np.array([box]),
        scores=np.array([score]),
        labels=np.array([1]),
        frame_times_s=np.arange(n_frames) / 10.0,
    )


@pytest.mark.parametrize(
    ("change", "examined"),
    [
        ({}, True),  # left and top exactly 50, (39 + 1)² exactly 1600, score exactly 0.8
        ({"box": (49.99, 50.0, 89.0, 89.0)}, False),
        ({"box": (50.0, 49.99, 89.0, 89.0)}, False),
        ({"box": (60.0, 60.0, 98.9, 99.0)}, False),  # under 1600
        ({"box": (211.0, 60.0, 250.0, 99.0)}, False),  # right exactly W - 50
        ({"box": (210.9, 60.0, 249.9, 99.0)}, True),
        ({"box": (60.0, 111.0, 99.0, 150.0)}, False),  # bottom exactly H - 50
        ({"box": (60.0, 110.9, 99.0, 149.9)}, True),
        ({"score": 0.7999}, False),
        ({"score": 0.98}, False),
        ({"score": 0.9799}, True),
        ({"at": 3}, False),
        ({"at": 4}, True),  # window - 1: one earlier frame fewer
        ({"at": 14}, True),
        ({"at": 15}, False),  # t + window = n
    ],
)
def test_every_exemption_at_its_boundary(change, examined):
    work = paper_work(one_box(**change), PaperThresholds())
    assert len(work.undecided) == int(examined)


@pytest.mark.parametrize("seed", range(4))
def test_no_other_frames_than_those_needed_are_looked_at(seed):
    rng = np.random.default_rng(seed)
    frames, places = make_video(rng)
    found = make_detections(rng, places)
    for _ in range(6):
        settings = replace(random_settings(rng), search_margin=float(rng.choice([0.0, 3.0, 12.5])))
        needed = PaperJudge(found, settings).frames_needed
        assert not needed.all()
        noise = [rng.integers(0, 256, frame.shape, dtype=np.uint8) for frame in frames]
        mixed = [frames[t] if needed[t] else noise[t] for t in range(len(frames))]
        read = []

        def reading(wanted, read=read):
            read += np.flatnonzero(wanted).tolist()
            return reader(frames)(wanted)

        judge = PaperJudge(found, settings)
        one = stream_paper(judge, reading)
        assert read == np.flatnonzero(needed).tolist()
        assert one.examples() == stream_paper(judge, lambda _, m=mixed: enumerate(m)).examples()


def test_a_lone_detection_needs_no_picture_at_all():
    found = one_box()
    assert not PaperJudge(found, PaperThresholds()).frames_needed.any()
    table = stream_paper(PaperJudge(found, PaperThresholds()), lambda wanted: iter(()))
    assert negatives(table) == {0}
    assert table.examples()[0].rule == "paper"


@pytest.mark.parametrize(("shift", "negative"), [(20.0, True), (19.0, False)])
def test_iou_exactly_at_the_threshold_does_not_count(shift, negative):
    """40 x 40 inclusive boxes shifted by 20 share 20·40 of 2400: IoU exactly 1/3."""
    found = one_box()
    both = replace(
        found,
        frame_index=np.array([10, 11]),
        boxes_xyxy=np.array([[60.0, 60, 99, 99], [60.0 + shift, 60, 99 + shift, 99]]),
        scores=np.array([0.9, 0.99]),
        labels=np.array([1, 1]),
    )
    work = paper_work(both, PaperThresholds(iou_threshold=800 / 2400))
    assert (0 in work.undecided) is negative


def test_exempt_boxes_are_neighbours_and_other_classes_are_not():
    found = one_box()
    two = replace(
        found,
        frame_index=np.array([10, 11]),
        boxes_xyxy=np.array([[60.0, 60, 99, 99], [60.0, 60, 99, 99]]),
        scores=np.array([0.9, 0.99]),
        labels=np.array([1, 1]),
    )
    assert len(paper_work(two, PaperThresholds()).undecided) == 0
    apart = replace(two, labels=np.array([1, 2]))
    assert paper_work(apart, PaperThresholds()).undecided.tolist() == [0]


def test_an_unreadable_neighbour_frame_leaves_the_candidate_alone():
    rng = np.random.default_rng(0)
    frames, places = make_video(rng)
    found = make_detections(rng, places)
    settings = PaperThresholds(0.5, 2.0, 2, 12.0, -1.0, 0.5, 0.0, 0.0)
    judge = PaperJudge(found, settings)
    whole = negatives(stream_paper(judge, reader(frames)))
    broken = negatives(stream_paper(judge, lambda wanted: ((t, frames[t]) for t in range(16) if t != 8)))
    assert broken < whole


@pytest.mark.parametrize(
    "change",
    [
        {"score_threshold": 0.45},
        {"score_threshold": 0.76},
        {"iou_threshold": 0.05},
        {"window": 5},
        {"search_margin": 13.0},
    ],
)
def test_a_query_outside_the_collected_ranges_is_refused(change):
    rng = np.random.default_rng(1)
    frames, places = make_video(rng, n_frames=6)
    found = make_detections(rng, places)
    evidence = collect_evidence(batches(found, frames), found, settings=COLLECT)
    settings = PaperThresholds(0.6, 0.98, 3, 12.0, 0.5, 0.2, 0.0, 0.0)
    mine_paper(evidence, settings)
    with pytest.raises(HemError, match=next(iter(change))):
        mine_paper(evidence, replace(settings, **change))


SHARED = Path(os.environ.get("HEM_SHARED", Path(__file__).parents[3] / "shared")) / "reference_cases"
ALTERNATIVE = PaperThresholds(
    score_threshold=0.7, window=3, search_margin=60, iou_threshold=0.35, ncc_threshold=0.7
)


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the reference cases are not at {SHARED}")
@pytest.mark.parametrize("case", ["1", "2"])
@pytest.mark.parametrize(
    ("name", "settings"), [("expected", PaperThresholds()), ("expected_alt", ALTERNATIVE)]
)
def test_the_published_programs_own_output(case, name, settings):
    expected = json.loads((SHARED / case / f"{name}.json").read_text())
    video = VideoInfo("video.mp4", width=expected["W"], height=expected["H"], fps=25.0)
    found = read_authors_text(SHARED / case / "detections.txt", video)
    capture = cv2.VideoCapture(str(SHARED / case / "video.mp4"))

    def read(wanted):
        for t in range(len(wanted)):
            if not capture.grab():
                return
            if wanted[t]:
                yield t, capture.retrieve()[1]

    table = stream_paper(PaperJudge(found, settings), read, channel_order="bgr")
    wanted = {
        (int(entry["fileName"][5:-4]) - 1, *box[:2], flag)
        for entry in expected["result"]
        for box, flag in zip(entry["boundingBox"], entry["isFace"], strict=True)
    }
    got = {
        (int(frame), float(box[0]), float(box[1]), int(kind != 0))
        for frame, box, kind in zip(table.frame_index, table.boxes_xyxy, table.kind, strict=True)
    }
    assert got == wanted
