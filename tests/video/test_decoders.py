"""One contract for every decoder: numbers, times, pixels, batches, damage-free files."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from hem.errors import HemError
from hem.mining.collect import collect_evidence
from hem.ops.thinning import thinned
from hem.structures import VideoDetections, VideoInfo
from hem.structures.evidence import BOX_REGION, PIXEL_REGION, CollectSettings
from hem.video.manifest import frames_as_video, probe
from hem.video.planar import PlanarGrey
from hem.video.source import FrameSource, open_source
from hem.video.writer import write_video

MakeVideo = Callable[..., Path]


def _needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed here")


DECODERS = [
    pytest.param({"decoder": "pyav"}, id="pyav"),
    pytest.param({"decoder": "decord", "guard": "never"}, id="decord", marks=_needs("decord")),
    pytest.param({"decoder": "decord"}, id="decord-guarded", marks=_needs("decord")),
    pytest.param({"decoder": "torchcodec"}, id="torchcodec", marks=_needs("torchcodec")),
]


def read(source: FrameSource) -> tuple[list[int], list[float], np.ndarray]:
    """All frames of a source: numbers, times and pixels (N, 3, H, W)."""
    with source:
        batches = list(source)
    indices = [index for batch in batches for index in batch.frame_indices.tolist()]
    times = [time for batch in batches for time in batch.times_s.tolist()]
    return indices, times, np.concatenate([batch.frames.numpy() for batch in batches])


def reference(path: Path) -> tuple[list[int], list[float], np.ndarray]:
    return read(open_source(probe(path), "pyav", batch_size=1, prefetch=0, threads=1))


@pytest.fixture(params=DECODERS)
def settings(request: pytest.FixtureRequest) -> dict[str, str]:
    return dict(request.param)


def test_every_frame_with_its_number_time_and_pixels(make_video: MakeVideo, settings: dict[str, str]) -> None:
    path = make_video(n=33, fps=30)
    source = open_source(probe(path), batch_size=8, **settings)
    with source:
        batches = list(source)
        report = source.report()
    assert [len(batch) for batch in batches] == [8, 8, 8, 8, 1]
    indices, times, pixels = read(open_source(probe(path), batch_size=8, **settings))
    assert indices == list(range(33))
    assert times == pytest.approx([k / 30 for k in range(33)], abs=1e-6)
    expected = reference(path)
    assert times == expected[1]
    assert (pixels == expected[2]).all()
    assert report.video.n_frames == 33 and report.error is None and not report.gaps
    assert batches[0].frames.dtype == torch.uint8 and tuple(batches[0].frames.shape) == (8, 3, 48, 64)


@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.avi"])
def test_other_containers(make_video: MakeVideo, settings: dict[str, str], name: str) -> None:
    codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
    path = make_video(name, n=12, codec=codec, fps=20)
    indices, times, pixels = read(open_source(probe(path), batch_size=5, **settings))
    expected = reference(path)
    assert indices == list(range(12)) and times == expected[1] and (pixels == expected[2]).all()
    assert times == pytest.approx([k / 20 for k in range(12)], abs=1e-3)


@pytest.mark.parametrize(("height", "width"), [(49, 65), (48, 66), (33, 17)])
def test_odd_sizes(make_video: MakeVideo, settings: dict[str, str], height: int, width: int) -> None:
    path = make_video(n=6, height=height, width=width)
    _, _, pixels = read(open_source(probe(path), batch_size=4, **settings))
    assert pixels.shape == (6, 3, height, width)
    assert (pixels == reference(path)[2]).all()


def test_start_end_stride(make_video: MakeVideo, settings: dict[str, str]) -> None:
    path = make_video(n=30)
    everything = reference(path)
    source = open_source(probe(path), batch_size=4, start_frame=7, end_frame=23, stride=5, **settings)
    indices, times, pixels = read(source)
    assert indices == [7, 12, 17, 22]
    assert times == [everything[1][k] for k in indices]
    assert (pixels == everything[2][indices]).all()
    assert source.report().video.n_frames is None


def test_end_frame_beyond_the_end_reads_all(make_video: MakeVideo, settings: dict[str, str]) -> None:
    source = open_source(probe(make_video(n=9)), end_frame=9, **settings)
    assert read(source)[0] == list(range(9))
    assert source.report().video.n_frames == 9 or source.report().video.n_frames is None
    source = open_source(probe(make_video(n=9)), end_frame=1000, **settings)
    assert read(source)[0] == list(range(9)) and source.report().video.n_frames == 9


def test_variable_frame_rate_is_kept(make_video: MakeVideo, settings: dict[str, str]) -> None:
    times = [0.0, 0.04, 0.05, 0.5, 0.54, 1.25, 2.0, 2.02]
    path = make_video(n=8, times_s=times)
    assert read(open_source(probe(path), batch_size=3, **settings))[1] == pytest.approx(times, abs=1e-4)


def test_rotation_is_applied(make_video: MakeVideo, settings: dict[str, str]) -> None:
    import cv2

    path = make_video(n=4, rotation=90)
    info = probe(path)
    assert (info.width, info.height) == (48, 64)
    _, _, pixels = read(open_source(info, **settings))
    assert pixels.shape == (4, 3, 64, 48)
    upright = make_video("plain.mp4", n=4)
    assert (pixels[0].transpose(1, 2, 0) == np.rot90(reference(upright)[2][0].transpose(1, 2, 0))).all()
    capture = cv2.VideoCapture(str(path))  # an independent program turns it the same way
    assert (capture.read()[1][..., ::-1] == pixels[0].transpose(1, 2, 0)).all()


@pytest.mark.parametrize("more", [{}, {"rotation": 90}, {"height": 49, "width": 65}])
def test_grey_frames_are_the_colour_ones_converted(
    make_video: MakeVideo, settings: dict[str, str], more: dict[str, int]
) -> None:
    import cv2

    info = probe(make_video(n=5, **more))
    indices, times, grey = read(open_source(info, batch_size=3, grey=True, **settings))
    colour = read(open_source(info, batch_size=3, **settings))
    assert (indices, times) == colour[:2] and grey.shape == (5, 1, info.height, info.width)
    for one, other in zip(grey[:, 0], colour[2].transpose(0, 2, 3, 1), strict=True):
        assert (one == cv2.cvtColor(np.ascontiguousarray(other), cv2.COLOR_RGB2GRAY)).all()


@pytest.mark.parametrize("batch_size", [1, 7, 64])
@pytest.mark.parametrize("threads", [0, 1, 3])
def test_batch_size_and_threads_change_nothing(make_video: MakeVideo, batch_size: int, threads: int) -> None:
    path = make_video(n=23)
    expected = reference(path)
    found = read(open_source(probe(path), batch_size=batch_size, threads=threads))
    assert found[:2] == expected[:2] and (found[2] == expected[2]).all()


def test_guarded_chunks_are_rebatched(make_video: MakeVideo) -> None:
    path = make_video(n=37)  # more than the three chunks of eight that fit between the processes
    expected = reference(path)
    for batch_size in (1, 5, 37):
        found = read(open_source(probe(path), guard="always", batch_size=batch_size))
        assert found[:2] == expected[:2] and (found[2] == expected[2]).all()


def test_batches_stay_as_they_were_given(make_video: MakeVideo) -> None:
    with open_source(probe(make_video(n=40)), guard="always", batch_size=4) as source:
        kept = []
        for batch in source:
            kept.append((batch, batch.frames.clone()))
    assert all((batch.frames == copy).all() for batch, copy in kept)


def test_a_source_is_read_once(make_video: MakeVideo) -> None:
    with open_source(probe(make_video(n=3))) as source:
        list(source)
        with pytest.raises(RuntimeError, match="read once"):
            iter(source)


def test_closing_in_the_middle_stops_decoding(make_video: MakeVideo, settings: dict[str, str]) -> None:
    source = open_source(probe(make_video(n=40)), batch_size=2, **settings)
    first = next(iter(source))
    source.close()
    source.close()
    assert first.frame_indices.tolist() == [0, 1]
    assert source.report().video.n_frames is None


def test_image_folder(tmp_path: Path) -> None:
    from PIL import Image

    for k in (0, 1, 2, 10):
        Image.fromarray(np.full((6, 8, 3), k, dtype=np.uint8)).save(tmp_path / f"{k}.png")
    (tmp_path / "3.png").write_bytes(b"no image")
    Image.fromarray(np.zeros((5, 8, 3), dtype=np.uint8)).save(tmp_path / "4.png")
    (tmp_path / "notes.txt").write_text("not a frame")
    video = frames_as_video(tmp_path, fps=2)
    source = open_source(video, batch_size=2)
    indices, times, pixels = read(source)
    assert indices == [0, 1, 2, 5] and times == [0.0, 0.5, 1.0, 2.5]
    assert pixels[:, 0, 0, 0].tolist() == [0, 1, 2, 10]
    report = source.report()
    assert [(gap.first_frame, gap.end_frame) for gap in report.gaps] == [(3, 5)]
    assert "3.png" in report.gaps[0].reason and report.video.n_frames == 6 and video.n_frames == 6
    assert (video.width, video.height) == (8, 6)
    with pytest.raises(HemError, match="holds images"):
        frames_as_video(tmp_path / "absent", fps=2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"decoder": "vlc"}, "video.decoder='vlc'"),
        ({"device": "tpu"}, "video.device='tpu'"),
        ({"guard": "maybe"}, "video.guard='maybe'"),
        ({"batch_size": 0}, "batch_size"),
        ({"stride": 0}, "stride"),
        ({"start_frame": -1}, "start_frame"),
        ({"start_frame": 5, "end_frame": 4}, "before start_frame"),
        ({"guard": "always", "stall_s": 0}, "stall_s"),
    ],
)
def test_wrong_settings_are_named(make_video: MakeVideo, wrong: dict[str, object], message: str) -> None:
    with pytest.raises(HemError, match=message):
        list(open_source(probe(make_video(n=2)), **wrong))  # type: ignore[arg-type]


def test_absent_file_is_named() -> None:
    with pytest.raises(HemError, match="nowhere"):
        open_source(VideoInfo("v", path="/nowhere.mp4"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_without_a_gpu_is_an_error_and_auto_logs(
    make_video: MakeVideo, caplog: pytest.LogCaptureFixture
) -> None:
    info = probe(make_video(n=3))
    for decoder in ("auto", "pyav"):
        with pytest.raises(HemError, match="CUDA"):
            open_source(info, decoder, "cuda")
    with caplog.at_level("WARNING"):
        assert read(open_source(info, device="auto"))[0] == [0, 1, 2]
    assert "decodes on the CPU" in caplog.text


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@_needs("torchcodec")
def test_gpu_frames_agree_with_the_cpu(make_video: MakeVideo) -> None:
    path = make_video(n=20, height=144, width=176)
    with open_source(probe(path), device="cuda", batch_size=6) as source:
        batches = list(source)
    assert all(batch.frames.is_cuda for batch in batches)
    expected = reference(path)
    assert [t for b in batches for t in b.times_s.tolist()] == expected[1]
    difference = np.abs(torch.cat([b.frames for b in batches]).cpu().numpy().astype(int) - expected[2])
    assert difference.mean() < 1.0 and np.quantile(difference, 0.999) <= 4


def test_written_frames_come_back(tmp_path: Path) -> None:
    frames = [np.full((32, 48, 3), k * 40, dtype=np.uint8) for k in range(6)]
    path = tmp_path / "grey.mp4"
    assert write_video(path, iter(frames), 12.5, crf=0) == 6
    info = probe(path)
    assert (info.width, info.height, info.fps, info.n_frames) == (48, 32, 12.5, None)
    _, times, pixels = read(open_source(info))
    assert np.abs(pixels[:, :, 0, 0].astype(int) - np.array([[k * 40] * 3 for k in range(6)])).max() <= 3
    assert times == pytest.approx([k / 12.5 for k in range(6)])


@pytest.mark.parametrize(
    "more", [{}, {"rotation": 90}, {"height": 49, "width": 65}, {"height": 178, "width": 200}]
)
def test_grey_pictures_made_on_demand_are_the_colour_frames_converted(
    make_video: MakeVideo, settings: dict[str, str], more: dict[str, int]
) -> None:
    info = probe(make_video(n=4, **more))
    whole = read(open_source(info, batch_size=3, grey=True, **settings))
    with open_source(info, batch_size=3, grey=True, **settings) as source:
        batches = list(source.grey_batches())
    assert [len(batch) for batch in batches] == [3, 1]
    assert [k for batch in batches for k in batch.frame_indices] == whole[0]
    assert [t for batch in batches for t in batch.times_s] == whole[1]
    pictures = [picture for batch in batches for picture in batch.pictures]
    rng = np.random.default_rng(0)
    for picture, expected in zip(pictures, whole[2][:, 0], strict=True):
        assert picture.shape == expected.shape
        for step in (1, 2, 3, 5):
            assert (thinned(picture, step) == thinned(expected, step)).all()
        for _ in range(12):  # at first parts, later the whole that is kept
            y, x = (np.sort(rng.choice(side + 1, 2, replace=False)) for side in expected.shape)
            where = slice(y[0], y[1]), slice(x[0], x[1])
            assert (picture[where] == expected[where]).all()
        assert (picture[:, :] == expected).all()


def test_grey_on_demand_is_made_in_parts_where_the_decoder_gives_planes(make_video: MakeVideo) -> None:
    with open_source(probe(make_video(n=2, height=178, width=200)), decoder="pyav", grey=True) as source:
        (batch,) = source.grey_batches()
    assert all(isinstance(picture, PlanarGrey) for picture in batch.pictures)


def test_pictures_whose_parts_come_out_otherwise_are_made_whole(
    make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build of FFmpeg that converts parts in another way must not change an answer."""
    made = PlanarGrey._made
    monkeypatch.setattr(PlanarGrey, "_made", lambda self, *planes: made(self, *planes) ^ 1)
    with open_source(probe(make_video(n=2, height=178, width=200)), decoder="pyav", grey=True) as source:
        (batch,) = source.grey_batches()
    assert not any(isinstance(picture, PlanarGrey) for picture in batch.pictures)


def test_grey_batches_need_a_grey_source(make_video: MakeVideo) -> None:
    with open_source(probe(make_video(n=2))) as source, pytest.raises(HemError, match="grey=True"):
        source.grey_batches()


@pytest.mark.parametrize("still_s", [0.0, 0.2])
def test_evidence_is_the_same_from_whole_frames_and_from_parts(make_video: MakeVideo, still_s: float) -> None:
    info = probe(make_video(n=30, height=178, width=200))
    rng = np.random.default_rng(1)
    corner = rng.uniform(0, 120, (60, 2))
    found = VideoDetections(
        video=info,
        frame_index=np.repeat(np.arange(30), 2),
        boxes_xyxy=np.concatenate([corner, corner + rng.uniform(20, 60, (60, 2))], axis=1),
        scores=rng.uniform(0.3, 0.9, 60),
        labels=np.ones(60, dtype=np.int64),
        frame_times_s=np.arange(30) / info.fps,
    )
    settings = CollectSettings(
        search_margin=30.0, paper_min_area=0.0, paper_border_margin=0.0, still_s=still_s
    )
    evidence = []
    for way in (iter, FrameSource.grey_batches):
        with open_source(info, grey=True) as source:
            evidence.append(collect_evidence(way(source), found, settings=settings))
    one, other = evidence
    assert len(one.neighbours) > 100 and set(one.neighbours.region) == {PIXEL_REGION, BOX_REGION}
    for name in ("candidate", "offset", "region", "ncc", "tracked_xyxy"):
        np.testing.assert_array_equal(getattr(one.neighbours, name), getattr(other.neighbours, name))
    np.testing.assert_array_equal(one.cut_before, other.cut_before)
    np.testing.assert_array_equal(one.duplicate, other.duplicate)
    np.testing.assert_array_equal(np.array(one.change), np.array(other.change))
