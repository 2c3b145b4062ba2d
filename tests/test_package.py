"""What a user installs is what this checkout holds: the wheel brings conf/ and runs from anywhere."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, text=True)
    (wheel,) = folder.glob("hem_video-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(installed: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(installed), "PATH": "/usr/bin:/bin", "HOME": str(cwd)}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=cwd, env=environment, check=False
    )


def test_the_wheel_composes_experiments_elsewhere(installed: Path, tmp_path: Path) -> None:
    where = run(installed, tmp_path, "-c", "import hem.compose as c; print(c.conf_dir())")
    assert where.stdout.strip() == str(installed / "hem" / "conf"), where.stderr
    result = run(installed, tmp_path, "-m", "hem.train", "+experiment=quickstart", "--cfg", "job")
    assert result.returncode == 0, result.stderr
    assert "name: quickstart" in result.stdout


def test_the_wheel_brings_every_file_that_is_read(installed: Path) -> None:
    for folder, inside in ((ROOT / "conf", installed / "hem" / "conf"), (ROOT / "hem", installed / "hem")):
        for path in folder.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert (inside / path.relative_to(folder)).is_file(), path
    assert (installed / "hem" / "py.typed").is_file()


def test_every_experiment_and_group_composes(installed: Path, tmp_path: Path) -> None:
    script = (
        "from hydra import compose, initialize_config_dir\n"
        "from hem.compose import conf_dir\n"
        "import sys\n"
        "with initialize_config_dir(str(conf_dir()), version_base='1.3'):\n"
        "    for path in sorted((conf_dir() / 'experiment').glob('*.yaml')):\n"
        "        compose('train', ['+experiment=' + path.stem])\n"
        "    for group in ('detector', 'data', 'mining', 'arms', 'trainer', 'augment'):\n"
        "        for path in sorted((conf_dir() / group).glob('*.yaml')):\n"
        "            if path.stem != 'collect':\n"
        "                compose('train', [group + '=' + path.stem])\n"
        "print('composed')\n"
    )
    result = run(installed, tmp_path, "-c", script)
    assert "composed" in result.stdout, result.stderr


def test_asking_evidence_waits_for_no_network_library() -> None:
    heavy = "{'torchvision', 'pytorch_lightning', 'transformers'} & set(sys.modules)"
    code = f"import hem.mine, sys; sys.exit(', '.join({heavy}) or None)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
