import hashlib
import json

import av
import cv2
import numpy as np
import pytest

from hem.data.embedded import embedded, world_name
from hem.data.synthetic import CLASS_NAMES, WorldSpec, load_world, make_world, raw_frames
from hem.data.video_truth import truth_for
from hem.data.world.scene_truth import GLIMPSED, VISIBLE, FrameTruth
from hem.errors import HemError

SPEC = WorldSpec(
    seed=7,
    n_train=6,
    n_test=3,
    n_unlabelled_videos=2,
    n_heldout_videos=1,
    frames_per_video=44,
    frames_per_heldout_video=36,
    size_px=96,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world") / "w", SPEC, workers=2)


def digest(split, index, spec=SPEC):
    total = hashlib.sha256()
    for frame, truth in raw_frames(spec, split, index):
        total.update(frame.tobytes())
        total.update(repr(truth).encode())
    return total.hexdigest()


def test_layout_is_whole_and_truth_lies_apart(world):
    files = {p.relative_to(world.root).as_posix() for p in world.root.rglob("*") if p.is_file()}
    expected = {f"stills/train/still_{i:04d}.jpg" for i in range(6)}
    expected |= {f"stills/test/still_{i:04d}.jpg" for i in range(3)}
    expected |= {f"videos/unlabelled/clip_{i:04d}.mp4" for i in range(2)} | {"videos/heldout/clip_0000.mp4"}
    expected |= {f"truth/unlabelled/clip_{i:04d}.mp4.parquet" for i in range(2)}
    expected |= {"truth/heldout/clip_0000.mp4.parquet", "stills/train.json", "stills/test.json", "world.json"}
    assert files == expected
    assert list(world.root.parent.iterdir()) == [world.root]


def test_same_seed_same_frames_and_other_seed_others():
    for split in ("train", "unlabelled"):
        assert digest(split, 1) == digest(split, 1)
        assert digest(split, 1) != digest(split, 0)
    other = WorldSpec(**{**SPEC.as_dict(), "seed": 8})
    assert digest("train", 1) != digest("train", 1, other)
    assert digest("unlabelled", 0) != digest("heldout", 0)


def test_a_piece_does_not_depend_on_how_many_others_there_are():
    more = WorldSpec(**{**SPEC.as_dict(), "n_train": 50, "n_heldout_videos": 9})
    assert digest("train", 2) == digest("train", 2, more)
    assert digest("heldout", 0) == digest("heldout", 0, more)


def test_world_does_not_depend_on_workers(world, tmp_path):
    alone = make_world(tmp_path / "w", SPEC, workers=1)
    assert alone.digest == world.digest
    assert (alone.root / "world.json").read_text() == (world.root / "world.json").read_text()


def test_videos_are_h264_with_every_frame_and_close_to_what_was_drawn(world):
    for index in range(2):
        path = world.videos("unlabelled") / f"clip_{index:04d}.mp4"
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 96, 96)
            frames = list(container.decode(video=0))
        assert [round(float(f.pts * f.time_base) * SPEC.fps) for f in frames] == list(range(44))
        drawn = [picture for picture, _ in raw_frames(SPEC, "unlabelled", index)]
        for frame, picture in zip(frames[::10], drawn[::10], strict=True):
            decoded = frame.to_ndarray(format="rgb24").astype(float)
            assert np.abs(cv2.blur(decoded, (9, 9)) - cv2.blur(picture.astype(float), (9, 9))).mean() < 8


def test_truth_on_disk_is_that_of_the_frames(world):
    truth = truth_for(world.truth("unlabelled"), "clip_0001.mp4")
    assert truth.video_id == "clip_0001.mp4"
    assert truth.class_names == CLASS_NAMES
    assert truth.labelled_frames.all() and len(truth.labelled_frames) == 44
    for index, (_, drawn) in enumerate(raw_frames(SPEC, "unlabelled", 1)):
        rows = truth.rows_of(index)
        assert truth.boxes_xyxy[rows].tolist() == [list(box) for box in drawn.boxes_xyxy]
        assert truth.labels[rows].tolist() == drawn.labels
        assert truth.ignore[rows].tolist() == drawn.ignore
        assert truth.object_id[rows].tolist() == drawn.object_ids


def test_coco_labels_fit_the_stills(world):
    folder, labels = world.stills("train")
    document = json.loads(labels.read_text())
    assert [c["name"] for c in document["categories"]] == ["face", "car"]
    drawn = [next(raw_frames(SPEC, "train", i))[1] for i in range(6)]
    assert len(document["annotations"]) == sum(len(t.labels) for t in drawn) > 0
    for image in document["images"]:
        picture = cv2.imread(str(folder / image["file_name"]))
        assert picture.shape == (image["height"], image["width"], 3) == (96, 96, 3)
    for annotation in document["annotations"]:
        left, top, width, height = annotation["bbox"]
        assert left >= 0 and top >= 0 and left + width <= 96 and top + height <= 96
        assert width > 0 and height > 0


def test_existing_world_is_used_again_untouched(world):
    before = {p: p.stat().st_mtime_ns for p in world.root.rglob("*")}
    again = make_world(world.root, SPEC)
    assert again == world
    assert {p: p.stat().st_mtime_ns for p in world.root.rglob("*")} == before


def test_other_spec_at_the_same_place_is_refused(world):
    with pytest.raises(HemError, match="another kind"):
        make_world(world.root, WorldSpec(**{**SPEC.as_dict(), "n_train": 7}))


@pytest.mark.parametrize("change", ["changed", "lost", "added"])
def test_damaged_world_is_refused(change, tmp_path):
    small = WorldSpec(seed=1, n_train=2, n_test=1, n_unlabelled_videos=0, n_heldout_videos=0, size_px=64)
    made = make_world(tmp_path / "w", small)
    victim = made.root / "stills" / "train" / "still_0001.jpg"
    if change == "changed":
        victim.write_bytes(victim.read_bytes()[:-1])
    elif change == "lost":
        victim.unlink()
    else:
        victim = victim.with_name("more.jpg")
        victim.write_bytes(b"x")
    with pytest.raises(HemError, match=f"{victim.name} was {change}"):
        load_world(made.root)


def test_folder_without_a_world_is_refused(tmp_path):
    with pytest.raises(HemError, match=r"no world\.json"):
        make_world(tmp_path, SPEC)


def test_a_stopped_run_leaves_nothing(tmp_path):
    def stop(done, total, rate):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_world(tmp_path / "w", SPEC, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_every_picture_and_gives_a_rate(tmp_path):
    seen = []
    small = WorldSpec(
        seed=1, n_train=2, n_test=1, n_unlabelled_videos=1, n_heldout_videos=0, frames_per_video=5, size_px=64
    )
    make_world(tmp_path / "w", small, workers=1, progress=lambda *step: seen.append(step))
    assert [done for done, _, _ in seen] == [5, 6, 7, 8]
    assert {total for _, total, _ in seen} == {8}
    assert all(rate > 0 for _, _, rate in seen)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", -1),
        ("n_train", -1),
        ("frames_per_video", 0),
        ("size_px", 62),
        ("size_px", 97),
        ("fps", 0),
        ("seed", 1.5),
        ("seed", True),
    ],
)
def test_spec_out_of_range_is_named(field, value):
    with pytest.raises(HemError, match=field):
        WorldSpec(**{field: value})


def test_spec_at_its_lowest_is_legal():
    spec = WorldSpec(
        n_train=0, n_test=0, n_unlabelled_videos=0, n_heldout_videos=0, frames_per_video=1, size_px=64, fps=1
    )
    assert spec.n_frames == 0


def outline(left, top, right, bottom):
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=float)


@pytest.mark.parametrize(
    ("seen_share", "expected"),
    [(VISIBLE, [False]), (VISIBLE - 0.01, [True]), (GLIMPSED, [True]), (GLIMPSED - 0.01, []), (0.0, [])],
)
def test_visibility_thresholds(seen_share, expected):
    owners = np.zeros((100, 100), dtype=np.uint8)
    owners[10:50, 10:60].reshape(-1)  # the object covers 2000 pixels
    rows, columns = np.unravel_index(np.arange(round(2000 * seen_share)), (40, 50))
    owners[10 + rows, 10 + columns] = 3
    truth = FrameTruth()
    truth.add(outline(10, 10, 60, 50), owners, 3, 2, 17)
    assert truth.ignore == expected
    if expected:
        assert (truth.boxes_xyxy, truth.labels, truth.object_ids) == ([(10, 10, 60, 50)], [2], [17])


def test_an_object_half_outside_is_clipped_and_one_outside_is_absent():
    owners = np.full((100, 100), 1, dtype=np.uint8)
    truth = FrameTruth()
    truth.add(outline(80, 20, 120, 60), owners, 1, 1, 0)
    assert truth.boxes_xyxy == [(80, 20, 100, 60)]
    truth.add(outline(100, 20, 140, 60), owners, 1, 1, 1)
    truth.add(outline(-50, -50, 0, 0), owners, 1, 1, 2)
    assert truth.object_ids == [0]


def test_video_has_what_makes_detectors_flicker():
    spec = WorldSpec(seed=3, n_unlabelled_videos=1, frames_per_video=240, size_px=96)
    frames, truths = zip(*raw_frames(spec, "unlabelled", 0), strict=True)
    small = np.stack([cv2.resize(f, (24, 24), interpolation=cv2.INTER_AREA).astype(float) for f in frames])
    change = np.abs(np.diff(small, axis=0)).mean(axis=(1, 2, 3))
    assert (change > 4 * np.median(change)).sum() >= 2  # cuts
    light = np.array([f.mean() for f in frames])
    assert (np.abs(np.diff(light)) > 0.1 * light[1:]).sum() >= 2  # exposure jumps
    assert {label for t in truths for label in t.labels} == {1, 2}
    lives = {}
    for index, truth in enumerate(truths):
        for number in truth.object_ids:
            lives.setdefault(number, []).append(index)
    assert any(len(life) < 30 for life in lives.values())  # comes or goes within a shot
    assert any(len(life) >= 30 for life in lives.values())


def test_stills_and_video_differ_in_light_and_noise():
    spec = WorldSpec(seed=5, size_px=96, frames_per_video=1)
    stills = [next(raw_frames(spec, "train", i))[0] for i in range(12)]
    frames = [next(raw_frames(spec, "unlabelled", i))[0] for i in range(12)]

    def noise(picture):
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(float)
        return np.median(np.abs(grey - cv2.GaussianBlur(grey, (0, 0), 1)))

    assert np.mean([f.mean() for f in frames]) < 0.85 * np.mean([s.mean() for s in stills])
    assert np.median([noise(f) for f in frames]) > 1.2 * np.median([noise(s) for s in stills])


def test_raw_frames_names_an_unknown_split():
    with pytest.raises(HemError, match="'validation'"):
        next(raw_frames(SPEC, "validation", 0))


def test_embedded_gives_everything_an_experiment_needs(tmp_path):
    sizes = {k: v for k, v in SPEC.as_dict().items()}
    bundle = embedded(tmp_path, **sizes)
    assert bundle.class_names == CLASS_NAMES
    assert (len(bundle.train), len(bundle.test)) == (6, 3)
    root = tmp_path / world_name(SPEC)
    assert bundle.videos == str(root / "videos" / "unlabelled")
    assert bundle.heldout_truth == str(root / "truth" / "heldout")
    drawn = next(raw_frames(SPEC, "train", 0))[1]
    target = bundle.train[0].target
    assert len(target.boxes_xyxy) == drawn.ignore.count(False)
    assert len(target.ignore_xyxy) == drawn.ignore.count(True)
    assert world_name(SPEC) != world_name(WorldSpec(**{**sizes, "fps": 16}))


def test_a_world_without_held_out_video_names_none(tmp_path):
    bundle = embedded(tmp_path, **{**SPEC.as_dict(), "n_heldout_videos": 0})
    assert bundle.heldout_videos is None and bundle.heldout_truth is None
    assert bundle.videos is not None
