"""The layout is the map: lower levels never import higher ones, and packages of one level stay apart."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "hem"
LEVELS = {
    "errors": 0, "structures": 0, "config": 0, "config_sweep": 0, "instantiate": 0,
    "ops": 1, "artifacts": 1,
    "data": 2, "detectors": 2, "video": 2, "mining": 2, "replay": 2, "evaluation": 2,
    "reviewing": 2,
    "training": 3,
    "reporting": 4,
}  # fmt: skip
ENTRY = 5
# who alone may import what: the place a library is touched is part of the map
ONLY = {
    "hydra": {5},
    "omegaconf": {5},
    "pytorch_lightning": {3, 4, 5},
    "wandb": {4},
}
ONE_FILE = {"decord": "video/", "torchcodec": "video/"}


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
            names |= {f"{node.module}.{alias.name}" for alias in node.names if node.module == "hem"}
    return names


def violations(path: Path) -> list[str]:
    own = part_of(path)
    level = LEVELS.get(own, ENTRY)
    found = []
    for name in imported(path):
        top, *rest = name.split(".")
        if top == "hem" and rest and rest[0] in LEVELS:
            other = LEVELS[rest[0]]
            same_level_neighbour = other == level and rest[0] != own and level == 2
            if other > level or same_level_neighbour:
                found.append(f"{path.relative_to(ROOT)} imports {name}")
        elif top == "hem" and rest and level < ENTRY and (ROOT / f"{rest[0]}.py").exists():
            found.append(f"{path.relative_to(ROOT)} imports the entry point {name}")
        if top in ONLY and level not in ONLY[top]:
            found.append(f"{path.relative_to(ROOT)} imports {top}")
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_go_down_only(path: Path) -> None:
    assert violations(path) == []


@pytest.mark.parametrize(("library", "folder"), ONE_FILE.items())
def test_each_decoder_library_is_touched_by_one_file(library: str, folder: str) -> None:
    users = [p for p in modules() if any(name.split(".")[0] == library for name in imported(p))]
    assert len(users) == 1
    assert users[0].relative_to(ROOT).as_posix().startswith(folder)


def test_the_checker_sees_a_violation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = ROOT / "ops" / "_never_written.py"
    monkeypatch.setattr(
        Path, "read_text", lambda self, encoding=None: "import wandb\nimport hem.training.fit\n"
    )
    assert len(violations(bad)) == 2


def test_files_stay_short() -> None:
    long = [f"{p}: {n}" for p in modules() if (n := len(p.read_text(encoding="utf-8").splitlines())) > 400]
    assert long == []


def test_no_drawer_called_utils() -> None:
    assert [p for p in ROOT.rglob("*") if p.stem in {"utils", "helpers", "misc", "common"}] == []
