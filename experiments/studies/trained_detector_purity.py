"""Purity of hard negatives at one yield, rule by rule, on detectors that hem trained itself.

    python experiments/studies/trained_detector_purity.py RUN [RUN …] [--yield-share 0.02] [--out table.md]

Each RUN is a finished directory of penn_fudan_mot.py: a detector trained on Penn-Fudan, and the evidence
it left on the unlabelled part of each sequence. No truth was used to train or to mine. For every rule one
threshold is moved (named in the table) until it mines as near to the wanted share of all detections as it
can; the share reached is printed beside the purity, since some rules cannot mine that many. A mined box is
false when its IoU with every true box is below 0.5. Settings are the same for every run and sequence but
for the one that is moved.
"""

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from hem.artifacts import read_json
from hem.artifacts.evidence import load_evidence
from hem.artifacts.places import read_stages
from hem.artifacts.truth import load_truth
from hem.config import VideoConfig
from hem.errors import HemError
from hem.evaluation.purity import Share, covers_object
from hem.given import stream_video
from hem.mining.baselines import mine_random, mine_score
from hem.mining.paper import PaperThresholds
from hem.reporting.tables import MISSING
from hem.settings import preset
from hem.structures import HardExample, Kind, VideoTruth
from hem.structures.evidence import Evidence

GRID = np.round(np.concatenate([np.arange(0.0, 0.1, 0.005), np.arange(0.1, 1.0, 0.02)]), 3)
# Raw scores, since the detectors are of one kind: every detection is a candidate.
ALL = {
    "score_scale": "raw",
    "score_threshold": 0.1,
    "neighbour_threshold": 0.1,
    "ignore_threshold": 0.1,
    "label_threshold": 0.75,
}
ASKED = {**ALL, "positive_response": 0.7}
Mine = Callable[[Evidence, float], list[HardExample]]


def _hem(evidence: Evidence, limit: float) -> list[HardExample]:
    return preset("hem", **ASKED, negative_response=limit).mine([evidence])


def _hem_misplaced(evidence: Evidence, limit: float) -> list[HardExample]:
    return preset("hem", **ASKED, negative_response=limit, clear_iou=1.0).mine([evidence])


def _elicited(evidence: Evidence, limit: float) -> list[HardExample]:
    return preset("elicited", **ASKED, negative_response=limit).mine([evidence])


def _temporal(evidence: Evidence, limit: float) -> list[HardExample]:
    return preset("temporal", **ALL, steadiness_threshold=limit).mine([evidence])


def _paper(evidence: Evidence, limit: float) -> list[HardExample]:
    if round(limit * 1000) % 100:  # it looks at the pixels each time, so a tenth apart is enough
        raise HemError("not tried")
    limits = PaperThresholds(score_threshold=limit, max_score=1.1, min_area=0.0, border_margin=0.0)
    found = evidence.detections
    return stream_video(found.video, found, limits, VideoConfig())[0].examples()


def _score(evidence: Evidence, limit: float) -> list[HardExample]:
    top = float(np.quantile(evidence.detections.scores, limit))
    return mine_score(evidence.detections, low=-np.inf, high=top)


def _random(evidence: Evidence, limit: float) -> list[HardExample]:
    return mine_random(evidence.detections)


RULES: Mapping[str, tuple[Mine, str]] = {
    "hem": (_hem, "negative_response"),
    "hem, clear_iou=1": (_hem_misplaced, "negative_response"),
    "elicited": (_elicited, "negative_response"),
    "temporal": (_temporal, "steadiness_threshold"),
    "paper": (_paper, "score_threshold"),
    "score": (_score, "lowest share of scores"),
    "random": (_random, "nothing"),
}


def negatives(examples: Iterable[HardExample]) -> list[HardExample]:
    """Return the hard negatives."""
    return [one for one in examples if one.kind is Kind.HARD_NEGATIVE]


def at_yield(mine: Mine, evidence: Evidence, wanted: float) -> tuple[list[HardExample], float] | None:
    """Return what the rule mines nearest to ``wanted`` examples, and its setting; None if it cannot."""
    best: tuple[float, list[HardExample], float] | None = None
    for limit in GRID.tolist():
        try:
            found = negatives(mine(evidence, limit))
        except HemError:  # outside what was collected
            continue
        off = abs(len(found) - wanted)
        if best is None or off < best[0]:
            best = off, found, limit
    return None if best is None else (best[1], best[2])


def purity(examples: Sequence[HardExample], truth: VideoTruth) -> Share:
    """Return the share of false ones."""
    known = [covers for covers in covers_object(examples, [truth]) if covers is not None]
    return Share(known.count(False), len(known))


def base_rate(evidence: Evidence, truth: VideoTruth) -> Share:
    """Return the share of false ones among all detections."""
    return purity(mine_score(evidence.detections, low=-np.inf, high=np.inf), truth)


def rows_of(run: Path, share: float) -> list[str]:
    """Return one run's table rows."""
    stages = read_stages(run)
    config = read_json(run / "config.json", "config")["config"]
    name = f"{config['detector']['_target_'].rsplit('.', 1)[-1]}, seed {config['seed']}"
    lines = []
    for folder in sorted(stages["evidence"].glob("*/detections.parquet")):
        evidence = load_evidence(folder.parent)
        truth = load_truth(Path(config["videos_truth"]) / f"{evidence.video_id}.parquet")
        base = base_rate(evidence, truth)
        wanted = share * len(evidence.detections)
        cells = []
        for mine, _ in RULES.values():
            found = at_yield(mine, evidence, wanted)
            if found is None:
                cells.append(MISSING)
                continue
            right = purity(found[0], truth)
            reached = len(found[0]) / len(evidence.detections)
            cells.append(f"{right.hits}/{right.count} = {right.value or 0:.2f} ({reached:.1%})")
        video = evidence.video_id.removesuffix(".mp4")
        lines.append(
            f"| {name} | {video} | {len(evidence.detections)} | {base.value:.2f} | {' | '.join(cells)} |"
        )
    return lines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--yield-share", type=float, default=0.02, help="of all detections, in (0, 1)")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    moved = ", ".join(f"`{rule}`: {what}" for rule, (_, what) in RULES.items())
    lines = [
        f"Purity of hard negatives where each rule mines as near to {options.yield_share:.0%} of all "
        f"detections as it can (share reached in brackets). Moved: {moved}.",
        "",
        "| detector | sequence | detections | false among all | " + " | ".join(RULES) + " |",
        "|---|---|---|---|" + "---|" * len(RULES),
    ]
    for run in options.runs:
        lines += rows_of(run, options.yield_share)
    text = "\n".join(lines)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
