"""One thread a process: the suite runs in two, and more threads than cores only wait for each other."""

import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, and for every subprocess

import av
import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if find_spec("transformers") is None:
        for item in items:
            if item.get_closest_marker("detr"):
                item.add_marker(pytest.mark.skip(reason="needs the extra detr (transformers)"))


@pytest.fixture
def run_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Call a command's ``main`` in this process; gives its exit status and all that it said."""
    from hydra.core.global_hydra import GlobalHydra

    def call(command: ModuleType, *arguments: object) -> tuple[int, str]:
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", [command.__name__, *map(str, arguments)])
        try:
            command.main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        said = capsys.readouterr()
        return status, said.out + said.err

    return call


@pytest.fixture
def write_cut_video() -> Callable[..., Path]:
    """Write a video whose header promises 40 frames of noise, and whose file ends half-way."""

    def write(path: Path, seed: int = 0) -> Path:
        rng = np.random.default_rng(seed)
        with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
            stream = container.add_stream("h264", rate=10)
            stream.width = stream.height = 64
            stream.pix_fmt = "yuv420p"
            stream.options = {"g": "1", "crf": "20"}
            for _ in range(40):
                picture = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
                for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                    container.mux(packet)
            for packet in stream.encode(None):
                container.mux(packet)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        return path

    return write
