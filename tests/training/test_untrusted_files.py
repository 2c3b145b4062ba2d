"""What a file names is not called, and what ends training early says what to do."""

import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hem.detectors.retinanet import RetinaNet
from hem.errors import HemError
from hem.signals import Terminated
from hem.training.checkpoint import detector_from, load_checkpoint, save_checkpoint
from hem.training.fit import _fit
from hem.training.module import DetectionModule

SMALL = {"backbone": "mobilenetv3_small_050", "strides": [8, 16]}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "small.pt"
    node = {"_target_": "hem.detectors.retinanet.RetinaNet", **SMALL}
    save_checkpoint(path, RetinaNet(class_names=("cat",), **SMALL), node, {})
    return path


def test_equal_weights_are_equal_files(tmp_path: Path) -> None:
    detector = RetinaNet(class_names=("cat",), **SMALL)
    for name in ("one.pt", "folder/another.pt"):
        save_checkpoint(tmp_path / name, detector, {"_target_": "hem.detectors.retinanet.RetinaNet"}, {})
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "folder/another.pt").read_bytes()


def changed(path: Path, **detector: object) -> Path:
    document = torch.load(path, weights_only=True)
    document["detector"] = {**document["detector"], **detector}
    torch.save(document, path)
    return path


@pytest.mark.parametrize("wrapped", [lambda node: node, lambda node: [node], lambda node: {"a": [node]}])
def test_a_checkpoint_calls_nothing(checkpoint: Path, tmp_path: Path, wrapped) -> None:
    node = {
        "_target_": "hem.artifacts.files.write_json",
        "path": str(tmp_path / "x"),
        "kind": "k",
        "document": {},
    }
    changed(checkpoint, strides=wrapped(node))
    with pytest.raises(HemError, match=r"small\.pt names code to be called in \['strides'\]"):
        detector_from(load_checkpoint(checkpoint), checkpoint)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("target", ["hem.artifacts.files.remove_parts", "os.system", "hem.errors.HemError"])
def test_a_checkpoint_names_a_detector(checkpoint: Path, target: str) -> None:
    changed(checkpoint, _target_=target)
    with pytest.raises(HemError, match=r"is no detector|is not a Detector"):
        detector_from(load_checkpoint(checkpoint), checkpoint)


def test_a_checkpoint_that_lacks_something_is_named(checkpoint: Path) -> None:
    assert detector_from(load_checkpoint(checkpoint), checkpoint).class_names == ("cat",)
    document = torch.load(checkpoint, weights_only=True)
    del document["class_names"]
    torch.save(document, checkpoint)
    with pytest.raises(HemError, match=r"small\.pt is damaged .* lacks \['class_names'\]"):
        load_checkpoint(checkpoint)


def test_a_damaged_resume_point_says_what_to_do(tmp_path: Path) -> None:
    resume = tmp_path / "resume.ckpt"
    resume.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(HemError, match=r"resume\.ckpt is damaged.* remove it"):
        _fit(None, None, None, resume)  # type: ignore[arg-type]


def test_an_interrupt_stays_one() -> None:
    """Lightning answers it by exiting with 1 and by ignoring every later one."""
    handler = signal.getsignal(signal.SIGINT)

    class Trainer:
        def __init__(self, ended: SystemExit) -> None:
            self.ended = ended

        def fit(self, *args: object, **settings: object) -> None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            raise self.ended

    with pytest.raises(KeyboardInterrupt):
        _fit(Trainer(SystemExit(1)), None, None, None)  # type: ignore[arg-type]
    assert signal.getsignal(signal.SIGINT) is handler
    with pytest.raises(Terminated):
        _fit(Trainer(Terminated()), None, None, None)  # type: ignore[arg-type]
    signal.signal(signal.SIGINT, handler)


def test_any_seed_will_do() -> None:
    drawn = []
    for seed in (0, 7, 20_261_130, 2**62 + 5):
        module = SimpleNamespace(seed=seed, global_step=5, freeze_backbone_steps=0)
        DetectionModule.on_train_batch_start(module, [], 1)  # type: ignore[arg-type]
        drawn.append(torch.rand(1).item())
    assert len(set(drawn)) == 4
