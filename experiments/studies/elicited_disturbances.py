"""Which disturbances tell false alarms from true objects, and at what price?

    HEM_SHARED=DIR nice python experiments/studies/elicited_disturbances.py --cache DIR --output FILE

Trains two small detectors on Penn-Fudan (minutes of CPU each), runs them on three sequences whose
truth is known, asks again about every detection under every disturbance, and prints: how well each
disturbance and each statistic ranks false alarms (AUC; share false among the lowest 1, 2 and 5 %),
the greedy order in which disturbances are worth their passes, and what temporal evidence adds.
Weights, detections and responses are cached, so that only the tables are made again.

False = IoU < 0.5 with every true box; detections in ignore regions are left out.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import torch
from elicited_detectors import build, detect, train
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor, nn
from torchvision.ops import box_iou

from hem.mining.disturbances import DEFAULT_VARIANTS, DISTURBANCES, disturbances
from hem.mining.elicited import elicit, mean_response
from hem.structures import Detections

FAMILIES = ("faster_rcnn", "retinanet")
SEQUENCES = {"PETS09-S2L1": 8, "TUD-Stadtmitte": 6, "KITTI-17": 5}  # every n-th frame is disturbed
LAST_FRAME = 400
FLOOR, ASKED = 0.03, 0.05  # collecting floor; detections from here on are asked about
YIELDS = (0.01, 0.02, 0.05)
WINDOW = 3

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """The detections of one detector on one sequence that were asked about.

    Arrays of N rows: scores (N,), false (N,) bool, responses (N, V), ious (N, V) in the order
    of the disturbances asked, around (N, 2 * WINDOW) best score at the same place in the frames around (NaN
    beyond the video), crowd (N,) greatest IoU with a higher-scoring detection of the frame, odd (N,)
    how far log(height / width) lies from the median of the confident half, in robust deviations.
    """

    name: str
    scores: Floats
    false: NDArray[np.bool_]
    responses: Floats
    ious: Floats
    around: Floats
    crowd: Floats
    odd: Floats
    seconds_per_pass: float

    def above(self, score: float) -> "Case":
        """Return the rows with scores >= score."""
        keep = self.scores >= score
        rows = {
            name: getattr(self, name)[keep]
            for name in ("scores", "false", "responses", "ious", "around", "crowd", "odd")
        }
        return Case(name=self.name, seconds_per_pass=self.seconds_per_pass, **rows)


def frames_of(path: Path) -> Iterator[tuple[int, Tensor]]:
    """Yield (index, uint8 (3, H, W) RGB) of the first LAST_FRAME frames."""
    capture = cv2.VideoCapture(str(path))
    for index in range(LAST_FRAME):
        there, frame = capture.read()
        if not there:
            return
        rgb = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        yield index, torch.from_numpy(rgb).permute(2, 0, 1).contiguous()


def detector(family: str, shared: Path, cache: Path) -> nn.Module:
    """Return the trained detector, from the cache if it is there."""
    path = cache / f"{family}.pt"
    if not path.exists():
        torch.save(train(family, shared).state_dict(), path)
    model = build(family, None)
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()


def asker(model: nn.Module) -> Callable[[Tensor], list[Detections]]:
    """Return the detector as ``elicit`` calls it."""

    def ask(frames: Tensor) -> list[Detections]:
        return [
            Detections(torch.from_numpy(boxes), torch.from_numpy(scores), torch.ones(len(scores)))
            for boxes, scores in detect(model, frames, FLOOR)
        ]

    return ask


def collect(family: str, sequence: str, names: list[str], shared: Path, cache: Path) -> None:
    """Write detections of every frame, and responses of the chosen frames, unless they are there."""
    video = shared / "data" / "mot" / sequence / f"{sequence}.mp4"
    base_path = cache / f"base_{family}_{sequence}.npz"
    wanted = [n for n in names if not (cache / f"resp_{family}_{sequence}_{n}.npz").exists()]
    if base_path.exists() and not wanted:
        return
    ask = asker(detector(family, shared, cache))
    if not base_path.exists():
        found = [(index, ask(frame[None])[0]) for index, frame in frames_of(video)]
        np.savez(
            base_path,
            frame=np.concatenate([np.full(len(d), index) for index, d in found]),
            boxes=np.concatenate([d.boxes_xyxy.numpy() for _, d in found]),
            scores=np.concatenate([d.scores.numpy() for _, d in found]),
        )
    base = np.load(base_path)
    for name in wanted:
        begun, passes, answers = time.perf_counter(), 0, []
        for index, frame in frames_of(video):
            if index % SEQUENCES[sequence]:
                continue
            rows = np.flatnonzero((base["frame"] == index) & (base["scores"] >= ASKED))
            boxes = base["boxes"][rows]
            answers.append(np.stack(elicit(frame, boxes, np.ones(len(rows), np.int64), ask, [name])[:2]))
            passes += 1
        both = np.concatenate(answers, axis=1)[:, :, 0]
        seconds = (time.perf_counter() - begun) / passes
        np.savez(cache / f"resp_{family}_{sequence}_{name}.npz", both=both, seconds=seconds)


def verdicts(sequence: str, shared: Path, frame: NDArray[np.int64], boxes: Floats) -> NDArray[np.int64]:
    """Return 1 true, 0 false, -1 in an ignore region, for each detection (N,)."""
    rows = np.loadtxt(shared / "data" / "mot" / sequence / "gt.txt", delimiter=",")
    truth = np.concatenate([rows[:, 2:4] - 1, rows[:, 2:4] - 1 + rows[:, 4:6]], 1)
    result = np.zeros(len(frame), dtype=np.int64)
    for index in np.unique(frame):
        here, there = frame == index, rows[:, 0] == index + 1
        if not there.any():
            continue
        overlap = box_iou(torch.from_numpy(boxes[here]), torch.from_numpy(truth[there])).numpy() >= 0.5
        counted = rows[there, 6] != 0
        hit, ignored = overlap[:, counted].any(1), overlap[:, ~counted].any(1)
        result[here] = np.where(hit, 1, np.where(ignored, -1, 0))
    return result


def load(family: str, sequence: str, names: list[str], shared: Path, cache: Path) -> Case:
    """Read one case from the cache."""
    base = np.load(cache / f"base_{family}_{sequence}.npz")
    frame, boxes, scores = base["frame"].astype(np.int64), base["boxes"], base["scores"]
    rows = np.flatnonzero((frame % SEQUENCES[sequence] == 0) & (scores >= ASKED) & (frame < LAST_FRAME))
    files = [np.load(cache / f"resp_{family}_{sequence}_{name}.npz") for name in names]
    both = np.stack([one["both"] for one in files], 2)
    verdict = verdicts(sequence, shared, frame[rows], boxes[rows])
    keep = verdict >= 0
    around, crowd = surroundings(frame, boxes, scores, rows[keep])
    return Case(
        name=f"{family} {sequence}", scores=scores[rows[keep]], false=verdict[keep] == 0,
        responses=both[0][keep], ious=both[1][keep], around=around, crowd=crowd,
        odd=oddness(boxes, scores)[rows[keep]],
        seconds_per_pass=float(np.mean([one["seconds"] for one in files])),
    )  # fmt: skip


def surroundings(
    frame: NDArray[np.int64], boxes: Floats, scores: Floats, rows: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """Return Case.around and Case.crowd."""
    offsets = [offset for offset in range(-WINDOW, WINDOW + 1) if offset]
    around, crowd = np.zeros((len(rows), len(offsets))), np.zeros(len(rows))
    members = {int(index): np.flatnonzero(frame == index) for index in np.unique(frame)}
    for position, row in enumerate(rows):
        mine = torch.from_numpy(boxes[row : row + 1])
        for column, offset in enumerate(offsets):
            at = int(frame[row]) + offset
            if not 0 <= at <= int(frame[-1]):
                around[position, column] = np.nan
            elif at in members:
                near = box_iou(mine, torch.from_numpy(boxes[members[at]]))[0].numpy() > 0.5
                around[position, column] = scores[members[at]][near].max(initial=0.0)
        same = members[int(frame[row])]
        stronger = same[scores[same] > scores[row]]
        overlap = box_iou(mine, torch.from_numpy(boxes[stronger]))[0].numpy()
        crowd[position] = overlap.max(initial=0.0)
    return around, crowd


def oddness(boxes: Floats, scores: Floats) -> Floats:
    """Return Case.odd of every detection (N,)."""
    shape = np.log((boxes[:, 3] - boxes[:, 1]) / (boxes[:, 2] - boxes[:, 0]))
    usual = shape[scores >= np.median(scores[scores >= 0.3])]
    spread = 1.4826 * float(np.median(np.abs(usual - np.median(usual))))
    return np.asarray(np.abs(shape - np.median(usual)) / max(spread, 0.08))


def auc(value: Floats, false: NDArray[np.bool_]) -> float:
    """Chance that a false detection has the lower value than a true one; ties count half."""
    seen = ~np.isnan(value)
    ranks, wrong = rankdata(value[seen]), false[seen]
    low, high = int(wrong.sum()), int((~wrong).sum())
    if not low or not high:
        return float("nan")
    return float(1 - (ranks[wrong].sum() - low * (low + 1) / 2) / (low * high))


def purity(value: Floats, false: NDArray[np.bool_], share: float) -> float:
    """Share false among the lowest ``share`` of all; of ties at the border, their mean."""
    value = np.where(np.isnan(value), np.inf, value)
    count = max(1, int(np.ceil(share * len(value) - 1e-9)))
    border = np.sort(value)[count - 1]
    below, tied = value < border, value == border
    return float((false[below].sum() + false[tied].mean() * (count - below.sum())) / count)


def statistics(case: Case, columns: list[int]) -> dict[str, Floats]:
    """Every statistic tried, low meaning false."""
    answers, ious = case.responses[:, columns], case.ious[:, columns]
    mean = mean_response(answers)
    near = mean_response(case.around)
    with np.errstate(all="ignore"):
        return {
            "own score": case.scores,
            "mean": mean,
            "min": np.nanmin(answers, 1),
            "geometric mean": np.exp(np.nanmean(np.log(answers + 0.02), 1)),
            "-std": -np.nanstd(answers, 1),
            "mean / score": mean / case.scores,
            "mean - score": mean - case.scores,
            "share answered": mean_response(np.where(np.isnan(answers), np.nan, answers > 0)),
            "IoU of answers": mean_response(ious),
            "mean x IoU": mean * mean_response(ious),
            "temporal mean": near,
            "temporal share": mean_response(np.where(np.isnan(case.around), np.nan, case.around > 0)),
            "temporal -std": -np.nanstd(case.around, 1),
            "-crowd": -case.crowd,
            "-oddness": -case.odd,
            "mean x shape": mean * np.exp(-(case.odd**2) / 8),
            "mean + temporal": mean + near,
            "mean / score + temporal": mean / case.scores + near / case.scores,
            "mean x (1 - crowd)": mean * (1 - case.crowd),
        }


def greedy(cases: list[Case], names: list[str]) -> list[tuple[str, float, float]]:
    """Add the disturbance that raises the mean AUC most, again and again: (name, AUC, purity at 2 %)."""
    chosen: list[int] = []
    steps = []
    for _ in names:
        best = max(
            (k for k in range(len(names)) if k not in chosen),
            key=lambda k: _mean_auc(cases, [*chosen, k]),
        )
        chosen.append(best)
        steps.append((names[best], _mean_auc(cases, chosen), _mean_purity(cases, chosen)))
    return steps


def _mean_auc(cases: list[Case], columns: list[int]) -> float:
    """Mean AUC; what no chosen disturbance shows keeps its own score, as it would in use."""
    values = []
    for case in cases:
        mean = mean_response(case.responses[:, columns])
        values.append(auc(np.where(np.isnan(mean), case.scores, mean), case.false))
    return float(np.mean(values))


def best_sets(cases: list[Case], names: list[str], largest: int = 4) -> list[tuple[str, float, float]]:
    """Of all sets of each size the one with the highest (share false in the lowest 2 %, AUC), both means."""
    rows = []
    for size in range(1, largest + 1):
        measured = (
            (_mean_purity(cases, list(chosen)), _mean_auc(cases, list(chosen)), chosen)
            for chosen in combinations(range(len(names)), size)
        )
        pure, area, chosen = max(measured)
        rows.append((", ".join(names[k] for k in chosen), area, pure))
    return rows


def _mean_purity(cases: list[Case], columns: list[int], share: float = 0.02) -> float:
    means = [mean_response(case.responses[:, columns]) for case in cases]
    return float(np.mean([purity(m, case.false, share) for m, case in zip(means, cases, strict=True)]))


def tables(cases: list[Case], names: list[str], variants: list[str], score: float) -> list[str]:
    """Return the tables as lines of Markdown for detections from ``score`` on."""
    cases = [case.above(score) for case in cases]
    bar = "|---" * (len(cases) + 1) + "|"
    lines = [f"\n## score >= {score}\n", "| |" + "".join(f" {case.name} |" for case in cases), bar]
    lines.append("| detections | " + " | ".join(str(len(case.scores)) for case in cases) + " |")
    lines.append("| base false rate | " + " | ".join(f"{case.false.mean():.2f}" for case in cases) + " |")
    lines += ["\nAUC of one disturbance alone (share of detections it shows)\n", lines[1], bar]
    for column, name in enumerate(names):
        cells = [
            f"{auc(case.responses[:, column], case.false):.3f} "
            f"({1 - np.isnan(case.responses[:, column]).mean():.2f})"
            for case in cases
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    columns = [names.index(name) for name in variants]
    lines += [
        f"\nStatistics over {', '.join(variants)}: AUC, then share false in the lowest 1 / 2 / 5 %\n",
        lines[1],
        bar,
    ]
    made = [statistics(case, columns) for case in cases]
    for statistic in made[0]:
        cells = []
        for case, values in zip(cases, made, strict=True):
            shares = " / ".join(f"{purity(values[statistic], case.false, share):.2f}" for share in YIELDS)
            cells.append(f"{auc(values[statistic], case.false):.3f}, {shares}")
        lines.append(f"| {statistic} | " + " | ".join(cells) + " |")
    lines += [
        "\nGreedy order\n",
        "| added | mean AUC | mean share false in the lowest 2 % |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {area:.3f} | {pure:.2f} |" for name, area, pure in greedy(cases, names)]
    lines += [
        "\nThe best set of each size, of all there are, by share false and then by AUC\n",
        "| set | mean AUC | mean share false in the lowest 2 % |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {area:.3f} | {pure:.2f} |" for name, area, pure in best_sets(cases, names)]
    lines += [
        "\nWhat is lost by asking fewer\n",
        "| set | mean AUC | lowest 2 % | lowest 5 % |",
        "|---|---|---|---|",
    ]
    for size in range(len(columns), 0, -1):
        for chosen in combinations(columns, size):
            kept = list(chosen)
            pure = [f"{_mean_purity(cases, kept, share):.2f}" for share in (0.02, 0.05)]
            asked = ", ".join(names[k] for k in kept)
            lines.append(f"| {asked} | {_mean_auc(cases, kept):.3f} | {' | '.join(pure)} |")
    return lines


def making(names: list[str], rounds: int = 15) -> list[str]:
    """Return a table of what it costs to make each disturbed 720p picture, best of some rounds."""
    frame = torch.randint(0, 256, (3, 720, 1280), dtype=torch.uint8)
    lines = ["| disturbance | ms to make, 720p |", "|---|---|"]
    for one in disturbances(names):
        times = []
        for _ in range(rounds):
            begun = time.perf_counter()
            one.apply(frame)
            times.append(time.perf_counter() - begun)
        lines.append(f"| {one.name} | {min(times) * 1e3:.1f} |")
    return [*lines, ""]


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    sibling = Path(__file__).resolve().parents[3] / "shared"
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("HEM_SHARED", sibling)))
    parser.add_argument("--cache", type=Path, required=True, help="folder for weights and responses")
    parser.add_argument("--output", type=Path, help="write the tables here as Markdown too")
    parser.add_argument("--asked", nargs="+", default=list(DISTURBANCES), help="disturbances to measure")
    parser.add_argument("--variants", nargs="+", default=list(DEFAULT_VARIANTS), help="averaged over")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.cache.mkdir(parents=True, exist_ok=True)
    cases = []
    for family in FAMILIES:
        for sequence in SEQUENCES:
            collect(family, sequence, options.asked, options.shared, options.cache)
            cases.append(load(family, sequence, options.asked, options.shared, options.cache))
    lines = [f"{case.name}: {case.seconds_per_pass * 1e3:.0f} ms a disturbed pass" for case in cases]
    lines += ["", *making(options.asked)]
    for score in (0.1, 0.3):
        lines += tables(cases, options.asked, options.variants, score)
    print("\n".join(lines))
    if options.output:
        options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
