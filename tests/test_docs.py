"""The documentation says what is there: its generated parts are complete, its commands and code run."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from hem.command_line import groups, rows_of
from hem.compose import group_file
from hem.config import TrainConfig

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))


def loaded(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    return loaded("docs_hooks", DOCS / "hooks.py")


@pytest.fixture(scope="module")
def configuration(hooks: ModuleType) -> str:
    return hooks.configuration_page()


def test_every_setting_is_on_the_configuration_page(configuration: str) -> None:
    keys = [row.key for row in rows_of("train")]
    classes = {key.removesuffix("._target_") for key in keys if key.endswith("._target_")} | {"collect"}
    for key in keys:
        if not any(key.startswith(f"{name}.") for name in classes):
            assert f"| `{key}` |" in configuration, key
    for key in ("detector.anchor_sizes", "data.test_sequences", "mining.ncc_threshold", "augment.mosaic"):
        assert f"| `{key}` |" in configuration
    assert set(TrainConfig.model_fields) - {"callbacks"} <= {key.split(".")[0] for key in keys}


def test_every_file_of_a_group_is_on_the_configuration_page(configuration: str, hooks: ModuleType) -> None:
    for group in hooks.CLASS_GROUPS:
        for name in groups()[group]:
            assert f"| `{name}` | `" in configuration, f"{group}={name}"


def test_tables_are_whole(configuration: str) -> None:
    rows = [line for line in configuration.splitlines() if line.startswith("| `")]
    assert len(rows) > 300
    columns = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
    assert columns <= {4, 5}
    assert "<" not in re.sub(r"`[^`]*`", "", configuration)


def test_marks_become_tables(hooks: ModuleType) -> None:
    page = hooks.filled((DOCS / "mining.md").read_text(encoding="utf-8"))
    assert "{{" not in page
    for name in ("negative_response", "ncc_threshold", "min_area", "elicit_share", "clear_iou"):
        assert f"| `{name}` |" in page
    row = next(line for line in page.splitlines() if line.startswith("| `negative_response`"))
    assert "Higher: more, less pure" in row
    shipped = group_file("mining", "hem")  # not the class's own defaults
    assert f"| `score_threshold` | `{shipped['score_threshold']:g}` |" in page


def test_a_mark_that_names_nothing_fails(hooks: ModuleType) -> None:
    from hem.errors import HemError

    with pytest.raises(HemError, match="did you mean 'hem'"):
        hooks.filled("{{ settings: mining/hemm }}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    for target in targets:
        if "://" not in target and target != "configuration.md":
            assert (DOCS / target).exists(), f"{page.name}: {target}"


def test_the_menu_holds_every_page() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    menu = {name for entry in yaml.safe_load(text)["nav"] for name in entry.values()}
    assert menu == {page.name for page in PAGES} | {"configuration.md"}


def test_commands_on_the_pages_fit_the_schema() -> None:
    from hem.cli import COMMANDS
    from hem.command_line import check_overrides

    for page in PAGES:
        text = re.sub(r"\\\n\s*", " ", page.read_text(encoding="utf-8"))
        for command, rest in re.findall(r"python -m hem\.(\w+)((?: +[+~]?[\w.@]+=\S*)*)", text):
            assert command in COMMANDS, f"{page.name}: {command}"
            given = [one.rstrip("`.,;:)") for one in rest.split()]
            check_overrides(command, [one for one in given if not re.search(r"…|\[|=[A-Z]", one)])


def test_your_own_detector_in_ten_lines(tmp_path: Path) -> None:
    """The code of the page, as it stands there, on a video of the embedded world."""
    from hem.data.embedded import embedded

    world = embedded(
        tmp_path / "worlds", n_train=1, n_test=1, n_unlabelled_videos=1, n_heldout_videos=0,
        frames_per_video=16, size_px=96,
    )  # fmt: skip
    code = re.search(r"```python\n(.*?)```", (DOCS / "your_own.md").read_text(encoding="utf-8"), re.S)[1]
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) <= 10
    network = (
        "import torch\nfrom torchvision.models.detection import ssdlite320_mobilenet_v3_large\n"
        "torch.manual_seed(0)\n"
        "my_network = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3)\n"
    )
    (tmp_path / "videos").symlink_to(world.videos)
    result = subprocess.run(
        [sys.executable, "-c", network + code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert "examples in mined/hard_examples.json" in result.stdout
    assert (tmp_path / "mined" / "hard_examples.json").is_file()


def test_the_picture_of_the_loop_is_small_and_only_of_the_embedded_world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    with Image.open(DOCS / "loop.png") as picture:
        assert picture.format == "PNG" and picture.width >= 1000
    assert (DOCS / "loop.png").stat().st_size < 300_000
    module = loaded("loop_picture", ROOT / "experiments" / "figures" / "loop_picture.py")
    from hem.artifacts import write_json

    write_json(tmp_path / "summary.json", "summary", {})
    write_json(tmp_path / "measured.json", "measured", {"videos": [], "evidence": None})
    config = {"data": {"_target_": "hem.data.coco_json.coco"}}
    write_json(tmp_path / "config.json", "config", {"config": config})
    monkeypatch.setattr(sys, "argv", ["loop_picture.py", str(tmp_path), str(tmp_path / "out.png")])
    with pytest.raises(SystemExit, match="not a run on the embedded world"):
        module.main()
    assert not (tmp_path / "out.png").exists()


@pytest.mark.slow
def test_it_builds_without_warnings(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="building the documentation needs mkdocs-material")
    pytest.importorskip("material", reason="building the documentation needs mkdocs-material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "WARNING -" not in result.stderr
    assert "negative_response" in (tmp_path / "site" / "mining" / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md", "conf/experiment/quickstart.yaml"])
def test_the_quickstart_takes_as_long_wherever_it_is_told(page):
    words = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    assert re.findall(r"(\w+) minutes\b", words)[:1] == ["five"]
    assert ("4 min 51 s" in words) is not page.startswith("conf")
