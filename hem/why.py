"""``hem why ID``: where a mined example came from, by which thresholds and model, and when it was used."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hem.arguments import command
from hem.config import WhyConfig
from hem.errors import HemError
from hem.reporting.provenance import EXAMPLES, Mined, explain, find_example, read_mined
from hem.structures import HardExample

RUNS = Path("runs")
_SHOWN_STEPS = 12


@command(WhyConfig, "hem why ID [run_dir=DIR] [json_output=true]", positional="example")
def main(config: WhyConfig) -> None:
    """Say where a mined example came from and what became of it."""
    mined, example = _find(config)
    document = explain(mined, example)
    if config.json_output:
        print(json.dumps(document, indent=1))
    else:
        print("\n".join(words(document)))


def _find(config: WhyConfig) -> tuple[Mined, HardExample]:
    if config.run_dir is not None:
        mined = read_mined(Path(config.run_dir))
        return mined, find_example(mined, config.example)
    runs = sorted(path.parent for path in RUNS.glob(f"**/{EXAMPLES}") if "replay" not in path.parts)
    found = []
    for run in runs:
        mined = read_mined(run)
        if any(one.example_id.startswith(config.example) for one in mined.examples()):
            found.append(mined)
    if not found:
        raise HemError(
            f"no run under {RUNS}/ mined an example {config.example!r}; name the run with run_dir=DIR"
        )
    if len(found) > 1:
        names = ", ".join(str(one.run) for one in found[:5])
        raise HemError(f"{len(found)} runs mined {config.example!r} ({names}); choose with run_dir=DIR")
    return found[0], find_example(found[0], config.example)


def words(document: Mapping[str, Any]) -> list[str]:
    """Return what explain gave as lines for people."""
    video = document["video"]
    box = ", ".join(f"{value:.1f}" for value in document["box_xyxy"])
    score = (
        "none (the detector said nothing here)" if document["score"] is None else f"{document['score']:.4f}"
    )
    lines = [
        f"{document['id']}: {document['kind'].replace('_', ' ')}, class {document['class']}",
        f"  video    {video['id']} ({video['path'] or 'path not known'}; sha256 {video['digest'][:16]})",
        f"  place    frame {document['frame_index']}, {document['time_s']:.3f} s; "
        f"box {box} (left, top, right, bottom, pixels)",
        f"  score    {score}; weight {document['weight']:.4f}",
        f"  rule     {document['rule']}; it saw {_pairs(document['seen_by_the_rule']) or 'nothing more'}",
        *_evidence(document["evidence"]),
    ]
    model = document["model"]
    if model is not None:
        lines.append(f"  model    {model['checkpoint']} (sha256 {(model['digest'] or 'not known')[:16]})")
    for name, settings in document["mined_by"].items():
        lines.append(f"  mined by {name}: {_pairs(settings) or 'settings not known'}")
    for name, used in document["used"].items():
        lines.append(f"  used by  {name}: {_usage(used)}")
    if document["verdict"]:
        verdict = document["verdict"]
        lines.append(f"  verdict  {verdict['answer']}{_by(verdict)}")
    for drop in document["dropped"]:
        reason = f": {drop['reason']}" if drop["reason"] else ""
        lines.append(f"  dropped  {drop['asked']}{_by(drop)}{reason}")
    return lines


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
    )


def _by(record: Mapping[str, Any]) -> str:
    who = f" by {record['who']}" if record["who"] else ""
    return f"{who} at {record['time']}"


def _evidence(found: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        return []
    lines = [f"  evidence {found['folder']}"]
    if found["neighbours"]:
        best: dict[int, float] = {}
        for one in found["neighbours"]:
            best[one["offset"]] = max(best.get(one["offset"], -1.0), one["ncc"])
        lines.append("           NCC " + ", ".join(f"t{k:+d} {best[k]:.2f}" for k in sorted(best)))
    if found["responses"]:
        answers = ", ".join(f"{one['variant']} {one['score']:.2f}" for one in found["responses"])
        lines.append(f"           response {answers}")
    return lines


def _usage(used: Mapping[str, Any]) -> str:
    if not used["rounds"]:
        return "its frame was not stored in any round"
    rounds = ", ".join(str(one) for one in used["rounds"])
    steps = [str(one) for one in used["steps"]]
    shown = ", ".join(steps[:_SHOWN_STEPS]) + (
        f", … ({len(steps)} in all)" if len(steps) > _SHOWN_STEPS else ""
    )
    drawn = f"drawn at steps {shown}" if steps else "never drawn"
    return f"its frame stands in round {rounds}, {drawn} of {used['of_steps']}"


if __name__ == "__main__":
    main()
