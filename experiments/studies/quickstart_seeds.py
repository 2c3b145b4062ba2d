"""The quickstart over several seeds: means, spread and paired 95 % intervals against the control.

    uv run python experiments/studies/quickstart_seeds.py --seeds 100 101 102 103 104

Each seed makes its own world (its own objects, videos and truth), trains its own baseline and runs
every arm from it. The seeds reported are not those that were used while developing (0 to 9). The
committed output is experiments/studies/quickstart_seeds.md.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from hem.evaluation.compare import Difference, compare_seeds, paired_difference
from hem.reporting.tables import MISSING

FIGURES = (
    "AP",
    "AP50",
    "video_AP",
    "video_AP50",
    "recall",
    "false_alarms_per_minute",
    "false_alarms_per_frame",
    "flickers_per_minute",
)
PURITY = (
    "hard_negatives",
    "hard_positives",
    "purity_hard_negatives",
    "purity_hard_positives",
    "purity_pseudo_labels",
    "false_share_of_detections",
)


def run_seed(seed: int, root: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Run the quickstart with one seed and return its summary; a finished run is read again."""
    directory = root / f"seed_{seed}"
    command = [sys.executable, "-m", "hem.train", "+experiment=quickstart", f"seed={seed}"]
    command += [f"hydra.run.dir={directory}", f"store_dir={root / 'store'}", *overrides]
    if not (directory / "summary.json").is_file():
        subprocess.run(command, check=True)
    summary: dict[str, Any] = json.loads((directory / "summary.json").read_text())
    return summary


def number(value: float | None, signed: bool = False) -> str:
    """Return a figure as text; what was not measured is a dash."""
    if value is None:
        return MISSING
    return f"{value:+.3f}" if signed else f"{value:.3f}"


def interval(difference: Difference) -> str:
    """Return 'mean [low, high]' and mark an interval that is clear of zero."""
    mark = " *" if difference.clear_of_zero else ""
    low, high = number(difference.low, True), number(difference.high, True)
    return f"{number(difference.mean, True)} [{low}, {high}]{mark}"


def mean_and_spread(values: Sequence[float | None]) -> str:
    """Return 'mean ± sample standard deviation' of what was measured."""
    measured = [value for value in values if value is not None]
    if not measured:
        return MISSING
    mean = sum(measured) / len(measured)
    spread = (sum((v - mean) ** 2 for v in measured) / max(len(measured) - 1, 1)) ** 0.5
    missing = f" ({len(values) - len(measured)} not measured)" if len(measured) < len(values) else ""
    return f"{mean:.3f} ± {spread:.3f}{missing}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def report(summaries: Sequence[Mapping[str, Any]], control: str) -> str:
    """Return the whole study as Markdown."""
    runs = [one["arms"] for one in summaries]
    arms = list(runs[0])
    parts = ["## Figures, mean ± standard deviation over seeds"]
    rows = [
        [arm, *(mean_and_spread([run[arm].get(figure) for run in runs]) for figure in FIGURES)]
        for arm in arms
    ]
    parts.append(table(["arm", *FIGURES], rows))
    differences = compare_seeds(runs, control)
    parts.append(f"## Paired differences to `{control}`, mean [95 % interval], * = clear of zero")
    rows = [
        [arm, *(interval(differences[arm][figure]) for figure in FIGURES)] for arm in arms if arm != control
    ]
    parts.append(table(["arm", *FIGURES], rows))
    parts.append(f"## False alarms per minute at equal recall, relative to `{control}`")
    rows = []
    for arm in arms:
        if arm == control:
            continue
        pairs = [[run[name]["false_alarms_per_minute"] for run in runs] for name in (arm, control)]
        rows.append([arm, interval(paired_difference(pairs[0], pairs[1], relative=True))])
    parts.append(table(["arm", "relative change"], rows))
    parts.append("## What was mined")
    rows = [[str(one["seed"]), *(number(one["mining"].get(name)) for name in PURITY)] for one in summaries]
    rows.append(["mean", *(mean_and_spread([one["mining"].get(n) for one in summaries]) for n in PURITY)])
    parts.append(table(["seed", *PURITY], rows))
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102, 103, 104])
    parser.add_argument("--root", type=Path, default=Path("runs/quickstart_seeds"))
    parser.add_argument("--out", type=Path, default=None, help="also write the report to this file")
    parser.add_argument("overrides", nargs="*", help="further configuration, for example arms=standard")
    options = parser.parse_args()
    started = time.monotonic()
    summaries = [run_seed(seed, options.root, options.overrides) for seed in options.seeds]
    control = summaries[0]["control"]
    head = [
        "# Quickstart over seeds",
        f"Seeds {', '.join(map(str, options.seeds))}; overrides: {' '.join(options.overrides) or 'none'}. "
        f"Python {platform.python_version()}, torch {torch.__version__}, {platform.machine()}, "
        f"{torch.get_num_threads()} threads, {(time.monotonic() - started) / 60:.0f} minutes in all.",
    ]
    text = "\n\n".join([*head, report(summaries, control)]) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
