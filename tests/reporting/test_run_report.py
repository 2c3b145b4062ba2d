"""What the report says of a run besides its figures."""

from hem.reporting.run_report import RunFiles, _command, _threshold, _video_rows
from hem.structures import Kind


def files(examples, right):
    rows = [{"video": "clip_0.mp4", "frames": 9, "hard_negative": 2}, {"video": "clip_9.mp4", "frames": 3}]
    return RunFiles({}, {}, {"right": right, "video_rows": rows}, examples, ("cat",), {}, None)


def test_the_command_is_read_and_quoted(tmp_path):
    assert _command(tmp_path) is None
    (tmp_path / ".hydra").mkdir()
    path = tmp_path / ".hydra" / "overrides.yaml"
    path.write_text("- +experiment=quickstart\n- videos=a b\n")
    assert _command(tmp_path) == "python -m hem.train +experiment=quickstart 'videos=a b'"
    path.write_text("[]")
    assert _command(tmp_path) == "python -m hem.train"


def test_the_chosen_threshold_is_named():
    hem = {"negative_response": 0.4, "positive_response": 0.92, "score_threshold": 0.4}
    assert _threshold("hard negative", hem) == "negative_response = 0.4"
    assert _threshold("hard positive", hem) == "positive_response = 0.92"
    assert _threshold("hard negative", {"score_threshold": 0.8}) == "score_threshold = 0.8"
    assert _threshold("hard negative", {}) == "as mined"


def test_rows_of_videos_count_what_is_right(examples):
    found = [e for e in examples(40) if e.video_id == "clip_0.mp4" and e.kind is Kind.HARD_NEGATIVE]
    first, second = found[:2]
    rows = _video_rows(files(found, {first.example_id: True, second.example_id: False}))
    assert rows[0]["right hard negatives"] == "1 of 2"
    assert rows[0]["right hard positives"] is None and rows[1]["right hard negatives"] is None
    assert rows[0]["hard negative"] == 2
    assert "right hard negatives" not in _video_rows(files(found, {}))[0]  # nothing is known
