import io

from rich.console import Console

from hem.reporting.mined import mined_table
from hem.reporting.tables import MISSING


def row(video: str, seconds: float, negatives: int, *gaps: str) -> dict:
    counts = {"hard_negative": negatives, "hard_positive": 2, "pseudo_label": 3, "ignore": 4}
    return {"video": video, "seconds": seconds, "frames": 50, "detections": 20, **counts, "gaps": list(gaps)}


def test_every_video_has_its_counts_and_its_rate_and_all_have_theirs() -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    rows = [row("a.mp4", 30.0, 4), row("b.mp4", 90.0, 2, "frames 3..9: broken"), row("c.png", 0.0, 1)]
    console.print(mined_table(rows, {"collect": 2.0, "query": 0.25}))
    text = console.export_text()
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
    of = {name: rest for name, *rest in cells}
    assert of["a.mp4"] == ["30.0", "50", "20", "4", "2", "3", "4", "8.0"]
    assert of["b.mp4"][-1] == "1.3"
    assert of["c.png"][-1] == MISSING
    assert of["all"] == ["120.0", "150", "60", "7", "6", "9", "12", "3.5"]
    assert "not decoded: frames 3..9: broken" in text
    assert "collected in 2.0 s (75 frames/s), answered in 0.25 s" in text
