"""What there is to review in a directory: a run of hem.train, or what hem.mine wrote."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hem.artifacts import load_detections, load_examples, read_json
from hem.artifacts.places import place_of
from hem.artifacts.rulings import VERDICTS, VerdictLog
from hem.errors import HemError
from hem.ops.rulings import as_mined
from hem.structures import HardExample, VideoDetections, VideoInfo


@dataclass(frozen=True)
class Reviewable:
    """Mined examples with all that is needed to show them.

    Attributes:
        run: the directory.
        examples: as mined: what an earlier verdict turned into an ignore region is an example again.
        class_names: names of labels 1, 2, ….
        videos: by video id, with the path where each lies.
        detections: the detector's, by video id; may be empty.
        threshold: score from which detections are drawn beside mined boxes.
    """

    run: Path
    examples: tuple[HardExample, ...]
    class_names: tuple[str, ...]
    videos: Mapping[str, VideoInfo]
    detections: Mapping[str, VideoDetections]
    threshold: float

    def by_frame(self) -> dict[tuple[str, int], list[HardExample]]:
        """Return the examples of each (video_id, frame_index)."""
        found: dict[tuple[str, int], list[HardExample]] = {}
        for example in self.examples:
            found.setdefault((example.video_id, example.frame_index), []).append(example)
        return found

    def class_name(self, label: int) -> str:
        """Return a label's name."""
        return self.class_names[label - 1] if 0 < label <= len(self.class_names) else f"class {label}"


def read_reviewable(run: Path) -> Reviewable:
    """Read what was mined in a run of hem.train or an output_dir of hem.mine.

    Raises:
        HemError: if nothing was mined there.
    """
    path = run / "hard_examples.parquet"
    if not path.is_file():
        raise HemError(
            f"{run} holds no hard_examples.parquet; give a run of hem.train or hem.mine that mined"
        )
    examples, header = load_examples(path)
    threshold = 0.3
    videos: dict[str, VideoInfo] = {}
    evidence: Path | None = run / "evidence"
    if (run / "measured.json").is_file():
        measured = read_json(run / "measured.json", "measured")
        videos = {one["video_id"]: VideoInfo(**one) for one in measured["videos"]}
        evidence = measured["evidence"] and place_of(run, measured, measured["evidence"])
        point = read_json(run / "summary.json", "summary")["operating_point"] or {}
        threshold = point.get("threshold") or threshold
    elif (run / "mining.json").is_file():
        evidence = _other_evidence(run, evidence)
    detections = _detections(evidence)
    for video_id, found in detections.items():
        known = videos.get(video_id)
        videos[video_id] = found.video if known is None else replace(found.video, path=known.path)
    verdicts = list(VerdictLog(run / VERDICTS).standing.values())
    names = tuple(header["class_names"])
    return Reviewable(run, tuple(as_mined(examples, verdicts)), names, videos, detections, threshold)


def _other_evidence(run: Path, own: Path | None) -> Path | None:
    """Return where hem.mine read its evidence if that was another directory."""
    mined = read_json(run / "mining.json", "mining")
    return place_of(run, mined, mined["evidence"]) if mined.get("evidence") else own


def _detections(evidence: Path | None) -> dict[str, VideoDetections]:
    if evidence is None or not evidence.is_dir():
        return {}
    inner = evidence / "evidence"
    root = inner if inner.is_dir() else evidence
    found: Sequence[VideoDetections] = [
        load_detections(path) for path in sorted(root.glob("*/detections.parquet"))
    ]
    return {one.video.video_id: one for one in found}
