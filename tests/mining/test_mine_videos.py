"""`paper` from given detections: the fast way gives what evidence gives, times and damage included."""

import gc
import json
import re
import shutil
import weakref
from dataclasses import replace

import numpy as np
import pytest

from hem import stored
from hem.api import mine_evidence, mine_videos
from hem.artifacts import evidence as evidence_files
from hem.config import VideoConfig
from hem.detectors.wrapped import WrappedDetector
from hem.errors import HemError
from hem.mining.presets import Paper, Temporal
from hem.stored import EVIDENCE, USED
from hem.structures import Kind
from hem.structures.evidence import CollectSettings
from hem.training import videos as videos_module
from hem.video.manifest import scan_videos
from hem.video.writer import write_video

PRESET = Paper(
    score_threshold=0.5, window=3, search_margin=20.0, ncc_threshold=0.2, min_area=100.0, border_margin=2.0
)
KEPT = CollectSettings(search_margin=20.0, window=4, paper_score_threshold=(0.4, 0.6), paper_min_area=50.0)


@pytest.fixture
def world(make_clip, tmp_path):
    clip = make_clip(3, n_frames=30, width=160, height=128)
    write_video(tmp_path / "clip.mp4", iter(clip.frames), fps=10)
    lines = []
    for t in range(30):
        frame = clip.found.rows_of(t)
        boxes, scores = clip.found.boxes_xyxy[frame], clip.found.scores[frame]
        lines += [f"frame{t + 1}.jpg", str(len(boxes))]
        lines += [
            f"{b[0]} {b[1]} {b[2] - b[0]} {b[3] - b[1]} {s}" for b, s in zip(boxes, scores, strict=True)
        ]
    (tmp_path / "clip.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def mined(world, name, videos=None, preset=PRESET, **more):
    videos = videos or scan_videos(world / "clip.mp4").videos
    return mine_videos(videos, preset, detections=world / "clip.txt", output_dir=world / name, **more)


def plain(result):
    return [(e.example_id, e.time_s, e.kind, e.weight, e.score) for e in result.examples]


def test_the_answer_alone_equals_the_answer_from_evidence(world):
    alone, kept = mined(world, "alone"), mined(world, "kept", collect=KEPT)
    assert plain(alone) == plain(kept)
    assert {e.kind for e in alone.examples} == {Kind.HARD_NEGATIVE, Kind.PSEUDO_LABEL}
    assert [e.evidence for e in alone.examples] == [pytest.approx(e.evidence) for e in kept.examples]
    assert alone.rows == kept.rows
    again = mined(world, "kept")  # evidence that answers is there: it is asked, not collected again
    assert plain(again) == plain(kept)


@pytest.mark.parametrize("video", [VideoConfig(batch_size=3), VideoConfig(guard="always")])
def test_batches_and_guard_do_not_change_it(world, video):
    one, other = mined(world, "one"), mined(world, "other", video=video)
    assert plain(one) == plain(other) and one.rows == other.rows
    times = [result.evidence[0].detections.frame_times_s for result in (one, other)]
    np.testing.assert_array_equal(*times)
    assert not np.isnan(times[0]).any()


def test_where_evidence_does_not_answer_the_video_is_read_again(world):
    kept = mined(world, "kept", collect=KEPT)
    other = replace(PRESET, score_threshold=0.8)  # collected was 0.4..0.6
    assert plain(mined(world, "kept", preset=other)) == plain(mined(world, "scratch", preset=other))
    assert plain(mined(world, "kept")) == plain(kept)


def test_evidence_asked_for_answers_other_settings_and_the_rest_says_so(world):
    mined(world, "kept", collect=KEPT)
    other = replace(PRESET, score_threshold=0.6, window=2, ncc_threshold=0.4, max_score=0.8)
    from_evidence = mine_evidence(world / "kept", other, output_dir=world / "asked")
    assert plain(from_evidence) == plain(mined(world, "scratch", preset=other))
    mined(world, "alone")
    assert (world / "alone" / EVIDENCE).is_dir()
    with pytest.raises(HemError, match="search_margin"):
        mine_evidence(world / "alone", PRESET, output_dir=world / "asked2")


@pytest.mark.parametrize("preset", [PRESET, Temporal(0.5, 0.3, window=3, score_scale="raw")])
def test_formats_that_leave_out_empty_frames_cover_the_whole_video_too(world, preset):
    """Authors' text lists every frame; MOT text and COCO results stop at the last detection."""
    frames = (world / "clip.txt").read_text().splitlines()
    found = mined(world, "found", preset=preset).examples
    last = max(e.frame_index for e in found if e.kind is Kind.HARD_NEGATIVE and e.frame_index < 26)
    said, mot, coco, at = [], [], [], 0
    for t in range(30):
        count = int(frames[at + 1])
        rows = frames[at + 2 : at + 2 + count] if t <= last else []
        at += 2 + count
        said += [f"frame{t + 1}.jpg", str(len(rows)), *rows]
        for row in rows:
            left, top, width, height, score = (float(value) for value in row.split())
            mot.append(f"{t + 1},-1,{left!r},{top!r},{width!r},{height!r},{score!r}")
            coco.append({"image_id": t, "category_id": 1, "bbox": [left, top, width, height], "score": score})
    (world / "clip.txt").write_text("\n".join(said) + "\n")
    (world / "mot.txt").write_text("\n".join(mot) + "\n")
    (world / "coco.json").write_text(json.dumps(coco))
    videos = scan_videos(world / "clip.mp4").videos
    whole = mined(world, "authors", preset=preset)
    assert whole.rows[0]["frames"] == 30
    assert any(e.frame_index == last and e.kind is Kind.HARD_NEGATIVE for e in whole.examples)
    for name in ("mot.txt", "coco.json"):
        found = mine_videos(videos, preset, detections=world / name, output_dir=world / f"{name}.out")
        assert plain(found) == plain(whole) and found.rows == whole.rows


def test_damage_is_named_and_the_rest_mined(world):
    data = (world / "clip.mp4").read_bytes()
    middle = len(data) // 2
    (world / "clip.mp4").write_bytes(data[:middle] + bytes(400) + data[middle + 400 :])
    alone, kept = mined(world, "alone"), mined(world, "kept", collect=KEPT)
    assert plain(alone) == plain(kept)
    assert alone.rows == kept.rows
    assert alone.rows[0]["gaps"]


def test_of_a_video_that_was_changed_the_last_evidence_answers(world):
    first = mined(world, "kept", collect=KEPT)
    with (world / "clip.mp4").open("ab") as video:
        video.write(bytes(8))  # another file with the same frames
    second = mined(world, "kept", collect=KEPT)
    digests = [result.evidence[0].detections.video.digest for result in (first, second)]
    assert len(list((world / "kept" / EVIDENCE).iterdir())) == len(set(digests)) == 2
    for place in (world / "kept", world / "kept" / EVIDENCE):
        asked = mine_evidence(place, PRESET, output_dir=world / "asked")
        assert plain(asked) == plain(second)
        assert [one.detections.video.digest for one in asked.evidence] == digests[1:]
        (said,) = asked.remarks
        assert re.match("clip.mp4: evidence in .* is of another version of the video, and left out", said)
    said_last = world / "kept" / "mining.json"
    said_last.write_text(said_last.read_text().replace(USED, "unknown"))  # as written before it was said
    for _ in range(2):
        with pytest.raises(HemError, match=r"two videos have the id 'clip\.mp4': evidence .* remove what is"):
            mine_evidence(world / "kept", PRESET, output_dir=world / "asked")
        said_last.unlink(missing_ok=True)
    assert plain(mined(world, "kept", collect=KEPT)) == plain(second)  # mined again: said again
    assert plain(mine_evidence(world / "kept", PRESET, output_dir=world / "asked")) == plain(second)


def test_of_many_videos_one_lies_in_memory(world, monkeypatch):
    names = [f"clip{k}" for k in range(3)]
    for k, name in enumerate(names):  # a tail that no decoder reads makes three different files
        (world / "many").mkdir(exist_ok=True)
        (world / "many" / f"{name}.mp4").write_bytes((world / "clip.mp4").read_bytes() + bytes(8 + k))
        (world / f"{name}.txt").write_text((world / "clip.txt").read_text())
    videos = scan_videos(world / "many").videos
    mine_videos(videos, PRESET, detections=world, collect=KEPT, output_dir=world / "kept")
    alive, most, load = weakref.WeakSet(), [0], evidence_files.load_evidence

    def counting(folder):
        gc.collect()
        found = load(folder)
        alive.add(found)
        most[0] = max(most[0], len(alive))
        return found

    monkeypatch.setattr(evidence_files, "load_evidence", counting)
    monkeypatch.setattr(stored, "load_evidence", counting)
    result = mine_evidence(world / "kept", PRESET, output_dir=world / "asked")
    assert most[0] == 1
    assert len({one.video_id for one in result.evidence}) == len(result.rows) == 3


def other_detections(world, name):
    """Every score a little lower: another detector's."""
    lines = (world / "clip.txt").read_text().splitlines()
    parts = [line.split() for line in lines]
    (world / name).write_text(
        "\n".join(" ".join([*p[:4], str(float(p[4]) * 0.9)]) if len(p) == 5 else p[0] for p in parts)
    )


@pytest.mark.parametrize("preset", [PRESET, Temporal(0.5, 0.2, score_scale="raw")])
def test_two_files_of_one_content_are_two_videos(world, preset):
    folder = world / "videos"
    folder.mkdir()
    for name in ("a.mp4", "b with a space ü.mp4"):
        shutil.copy(world / "clip.mp4", folder / name)
    shutil.copy(world / "clip.txt", folder / "a.txt")
    other_detections(world, "videos/b with a space ü.txt")
    found = mine_videos(scan_videos(folder).videos, preset, detections=folder, output_dir=world / "out")
    assert [row["video"] for row in found.rows] == ["a.mp4", "b with a space ü.mp4"]
    for name in ("a", "b with a space ü"):
        alone = mine_videos(
            scan_videos(folder / f"{name}.mp4").videos,
            preset,
            detections=folder / f"{name}.txt",
            output_dir=world / name,
        )
        assert plain(alone) == [
            row for row, e in zip(plain(found), found.examples, strict=True) if e.video_id == f"{name}.mp4"
        ]
    again = mine_videos(scan_videos(folder).videos, preset, detections=folder, output_dir=world / "out")
    assert plain(again) == plain(found)


def test_evidence_follows_a_video_that_is_renamed(world):
    temporal = Temporal(0.5, 0.2, score_scale="raw")
    before = mined(world, "out", preset=temporal)
    (world / "clip.mp4").rename(world / "other.mp4")
    after = mined(world, "out", scan_videos(world / "other.mp4").videos, preset=temporal)
    assert plain(before) == plain(after)
    assert {e.video_id for e in after.examples} == {"other.mp4"}
    assert after.evidence[0].detections.video.path == str(world / "other.mp4")


@pytest.mark.parametrize("preset", [PRESET, Temporal(0.5, 0.2, score_scale="raw")])
def test_evidence_of_other_detections_is_not_taken_for_these(world, preset):
    mined(world, "out", preset=preset)
    mined(world, "out", preset=preset)
    other_detections(world, "clip.txt")
    with pytest.raises(HemError, match="other detections"):
        mined(world, "out", preset=preset)


def asked(world, label, **more):
    def detect(images):
        boxes = [[20.0, 20.0, 60.0, 60.0]]
        return [{"boxes": boxes, "scores": [0.6], "labels": [label]} for _ in images]

    detector = WrappedDetector(detect, class_names=("a", "b"), name=f"always {label}")
    collect = CollectSettings(search_margin=None, **more)
    preset = Temporal(0.5, 0.2, score_scale="raw")
    videos = scan_videos(world / "clip.mp4").videos
    return mine_videos(videos, preset, detector=detector, collect=collect, output_dir=world / "asked")


@pytest.mark.parametrize("preset", ["hem", "temporal"])
def test_a_detector_that_scores_up_to_a_hundred_mines_what_the_same_up_to_one_does(world, preset):
    def detector(most):
        def detect(images):
            found = []
            for image in images:
                places = [(20, 20, 60, 60), (70, 40, 110, 90), (110, 10, 150, 50)]
                greys = [image[:, y0:y1, x0:x1].mean() for x0, y0, x1, y1 in places]
                scores = [most * (0.15 + 0.8 * float(1000 * grey % 1)) for grey in greys]
                found.append({"boxes": places, "scores": scores, "labels": [1, 1, 1]})
            return found

        return WrappedDetector(detect, class_names=("a",), name=f"to {most}", score_range=(0.0, most))

    kinds = []
    for most in (1.0, 100.0):
        out = world / f"{preset}_{most}"
        result = mine_videos(world / "clip.mp4", preset, detector=detector(most), output_dir=out)
        kinds.append([(e.kind, e.frame_index, e.box_xyxy, round(e.weight, 6)) for e in result.examples])
        again = mine_videos(world / "clip.mp4", preset, detector=detector(most), output_dir=out)
        assert plain(again) == plain(result)
    assert kinds[0] == kinds[1] and len({kind for kind, *_ in kinds[0]}) >= 2


def test_a_query_outside_what_was_collected_names_the_setting_that_collects(world):
    with pytest.raises(HemError, match=r"mining.score_threshold is 0.5, .* another collect.score_threshold"):
        asked(world, 1, score_threshold=(0.7, 0.8))


def test_evidence_of_another_detector_or_another_way_to_collect_is_refused(world):
    assert {e.label for e in asked(world, 1).examples} == {1}
    asked(world, 1, iou_threshold=(0.2, 0.5))  # less than was collected
    with pytest.raises(HemError, match=r"collect\.window is 9"):
        asked(world, 1, window=9)
    with pytest.raises(HemError, match="another detector"):
        asked(world, 2)
    with pytest.raises(HemError, match=r"collect\.match_side is 32"):
        asked(world, 1, match_side=32)
    with pytest.raises(HemError, match=r"collect\.floor_score"):
        asked(world, 1, floor_score=0.2)


def test_evidence_of_pixels_that_a_gpu_decoded_is_refused_on_the_cpu_and_the_other_way(world, monkeypatch):
    asked(world, 1)
    (folder,) = (world / "asked" / EVIDENCE).iterdir()
    flags, header = evidence_files.read_table(folder / "frames.parquet", "evidence_frames")
    assert header.pop("pixels") == "cpu"
    evidence_files.write_table(folder / "frames.parquet", "evidence_frames", flags, header=header)
    asked(world, 1)  # older evidence does not say
    monkeypatch.setattr(videos_module, "decoded_on", lambda decoder, device: "cuda")
    with pytest.raises(HemError, match=r"decoded on cuda here, but .* decoded on cpu"):
        asked(world, 1)
    mined(world, "gpu")
    mined(world, "gpu")
    monkeypatch.undo()
    with pytest.raises(HemError, match=r"decoded on cpu here, but .* decoded on cuda"):
        mined(world, "gpu")


def test_missing_detections_are_named_before_anything_is_decoded(world):
    folder = world / "videos"
    folder.mkdir()
    for name in ("a", "z"):
        shutil.copy(world / "clip.mp4", folder / f"{name}.mp4")
    shutil.copy(world / "clip.txt", folder / "a.txt")
    with pytest.raises(HemError, match=r"no detections of z\.mp4"):
        mine_videos(scan_videos(folder).videos, PRESET, detections=folder, output_dir=world / "out")
    assert not list((world / "out").glob("evidence/*/*"))


def test_videos_that_cannot_be_read_are_in_the_summary(world):
    (world / "broken.mp4").write_bytes(b"")
    found = scan_videos(world)
    result = mined(world, "out", found)
    assert [row["video"] for row in result.rows] == ["clip.mp4", "broken.mp4"]
    assert "is empty" in result.rows[1]["gaps"][0] and result.rows[1]["frames"] == 0
    stored = json.loads((world / "out" / "mining.json").read_text())
    assert stored["videos"][1]["gaps"] == result.rows[1]["gaps"]
