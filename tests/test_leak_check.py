"""What is evaluated on must not show what is trained or mined on; cheap, told of, and kept."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hem.building import build_parts
from hem.compose import conf_dir
from hem.config import TrainConfig, check
from hem.errors import HemError
from hem.video.writer import write_video

SIZE = (64, 48)


def scene(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC))


def film(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, (scene(seed) for _ in range(6)), 10.0)


def config_of(root: Path, **more: str) -> TrainConfig:
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    settings = {
        "data": "coco", "data.root": root / "data", "data.train_annotations": "train.json",
        "data.train_images": ".", "data.test_annotations": "test.json", "data.test_images": ".",
        "videos": root / "mined", "store_dir": root / "store", "output_dir": root / "run", "arms": "short",
        **more,
    }  # fmt: skip
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        composed = compose("train", [f"{key}={value}" for key, value in settings.items()])
    return check(TrainConfig, OmegaConf.to_container(composed, resolve=True))


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Two training images, two test images, a mined and a held-out video: all different."""
    (tmp_path / "data").mkdir()
    for part, seeds in (("train", (1, 2)), ("test", (3, 4))):
        images = []
        for seed in seeds:
            Image.fromarray(scene(seed)).save(tmp_path / f"data/still_number_{seed}.png")
            images.append({"id": seed, "file_name": f"still_number_{seed}.png"})
        box = {"id": 1, "image_id": seeds[0], "category_id": 1, "bbox": [5, 5, 20, 20]}
        document = {"images": images, "annotations": [box], "categories": [{"id": 1, "name": "thing"}]}
        if part == "train":
            document["annotations"].append({**box, "id": 2, "image_id": seeds[1]})
        (tmp_path / f"data/{part}.json").write_text(json.dumps(document))
    film(tmp_path / "mined/a.mp4", 10)
    film(tmp_path / "heldout/b.mp4", 11)
    return tmp_path


def note(config: TrainConfig) -> str:
    parts, _ = build_parts(config, lambda *_: None, lambda stage: [])
    return parts.data.note


def test_nothing_is_said_where_nothing_leaks(world: Path) -> None:
    assert note(config_of(world, heldout_videos=str(world / "heldout"))) == ""
    assert len(list((world / "store/leaks").iterdir())) == 1


@pytest.mark.parametrize(
    ("leak", "words"),
    [
        ("train_test", "train and test leak: 1 pair(s) of files are equal"),
        ("mined_test", "mined video and test images look the same"),
        ("mined_heldout", "mined and held-out video look the same"),
        ("train_heldout", "training images and held-out video look the same"),
        ("name", "1 mined video(s) have the name of test images, such as still_number_3.mp4"),
    ],
)
def test_every_leak_is_reported_and_refused(world: Path, caplog, leak: str, words: str) -> None:
    if leak == "train_test":
        (world / "data/still_number_3.png").write_bytes((world / "data/still_number_1.png").read_bytes())
    elif leak == "mined_test":
        film(world / "mined/c.mp4", 4)
    elif leak == "mined_heldout":
        film(world / "heldout/c.mp4", 10)
        (world / "heldout/c.mp4").write_bytes(
            (world / "heldout/c.mp4").read_bytes() + b"\0"
        )  # not its digest
    elif leak == "train_heldout":
        film(world / "heldout/c.mp4", 2)
    else:
        film(world / "mined/still_number_3.mp4", 12)
    heldout = str(world / "heldout")
    said = note(config_of(world, heldout_videos=heldout))
    assert words in said
    assert "LEAK: " + words in caplog.text
    assert note(config_of(world, heldout_videos=heldout)) == said  # kept, not looked for again
    with pytest.raises(HemError, match=r"evaluation\.leaks=report") as refused:
        note(config_of(world, heldout_videos=heldout, **{"evaluation.leaks": "refuse"}))
    assert words in str(refused.value)
    assert note(config_of(world, heldout_videos=heldout, **{"evaluation.leaks": "off"})) == ""


def test_videos_behind_urls_are_copied_first(world: Path) -> None:
    parts, _ = build_parts(
        config_of(world, videos=f"file://{world / 'mined'}"), lambda *_: None, lambda stage: []
    )
    assert [video.video_id for video in parts.videos] == ["a.mp4"]
    assert (world / "store" / "videos") in Path(parts.videos[0].path).parents


def test_a_heldout_video_that_is_mined_too_is_refused(world: Path) -> None:
    """Under another name, and whatever is done about pictures that only look alike."""
    (world / "mined/other_name.mp4").write_bytes((world / "heldout/b.mp4").read_bytes())
    config = config_of(world, heldout_videos=str(world / "heldout"), **{"evaluation.leaks": "off"})
    with pytest.raises(HemError, match=r"held-out video b\.mp4 is also mined, as other_name\.mp4"):
        note(config)
