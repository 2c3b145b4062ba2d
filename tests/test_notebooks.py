"""The notebooks run as a newcomer would run them; a tiny pass of each is part of every test run."""

import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NAMES = ("flickers", "thresholds_to_purity", "your_own_detector")


def cells(name: str) -> list[dict]:
    return json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]


def test_all_are_known() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_a_machine_is_stored(name: str) -> None:
    code = [cell for cell in cells(name) if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    text = (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    assert not re.search(r"/(home|root|Users|work|tmp|mnt)/", text)
    assert len(text) < 20_000


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_notebooks(name: str) -> None:
    named = set(re.findall(r"`(\w+)\.ipynb`", " ".join("".join(cell["source"]) for cell in cells(name))))
    assert named <= set(NAMES)


def execute(name: str, work: Path, monkeypatch: pytest.MonkeyPatch, *, tiny: bool) -> list[dict]:
    """Execute a notebook in a kernel of its own and return its cells with their outputs."""
    nbclient = pytest.importorskip("nbclient", reason="executing notebooks needs nbclient and ipykernel")
    pytest.importorskip("ipykernel", reason="executing notebooks needs nbclient and ipykernel")
    import nbformat

    monkeypatch.setenv("HEM_NOTEBOOK", "tiny" if tiny else "")
    monkeypatch.setenv("HEM_NOTEBOOK_DIR", str(work))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel chooses its own
    document = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    client = nbclient.NotebookClient(
        document, timeout=1800, kernel_name="python3", resources={"metadata": {"path": str(FOLDER.parent)}}
    )
    client.execute()
    return [dict(cell) for cell in document.cells if cell.cell_type == "code"]


def printed(code: list[dict]) -> str:
    return "".join(one.get("text", "") for cell in code for one in cell["outputs"])


def pictures(code: list[dict]) -> int:
    return sum("image/png" in one.get("data", {}) for cell in code for one in cell["outputs"])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("notebooks")


def test_own_detector_in_tiny(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = printed(execute("your_own_detector", shared, monkeypatch, tiny=True))
    assert "'face', 'car'" in said and "'categories'" in said
    assert sum(int(count) for count in re.findall(r"'(?:ignore|pseudo_label|hard_\w+)': (\d+)", said)) > 0


@pytest.mark.slow
@pytest.mark.timeout(1200)  # two minutes on an idle machine; test machines are seldom idle
@pytest.mark.parametrize("name", NAMES[:2])
def test_tiny(name: str, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = execute(name, shared, monkeypatch, tiny=True)
    assert "FCOS" in printed(code)
    assert pictures(code) >= 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", NAMES)
def test_in_full(
    name: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path_factory.getbasetemp() / "full"  # shared, as a newcomer's runs/ is
    code = execute(name, work, monkeypatch, tiny=False)
    said = printed(code)
    if name == "flickers":
        assert pictures(code) >= 3
    if name == "thresholds_to_purity":
        purities = [float(found) for found in re.findall(r"hard negatives, purity ([\d.]+)", said)]
        yields = [int(found) for found in re.findall(r": (\d+) hard negatives", said)]
        assert yields == sorted(yields) and yields[-1] > yields[0]
        assert purities[0] > 0.5
