"""One HTML file that shows a run: what was run, the arms compared, what was mined. It needs nothing else."""

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from hem.artifacts import whole_file
from hem.errors import HemError
from hem.reporting.markup import embedded_json, escape, pairs, picture, records, table
from hem.reporting.strips import COLOURS
from hem.reporting.tables import (
    METRICS,
    MISSING,
    MISSING_MEANS,
    comparison_rows,
    format_cell,
    mining_rows,
)
from hem.structures import HardExample

_FIELDS = ("id", "video", "frame", "time", "box", "label", "kind", "score", "weight", "rule", "round",
           "evidence", "right")  # fmt: skip
_INTERVALS = (
    "In square brackets: the 95 % interval over the choice of held-out videos; it says nothing about how "
    "much training varies from seed to seed."
)
_ONE_RUN = "One run has no interval: small differences are within what another seed would change."
_SIGNS = {"better": "better", "worse": "worse", "same": "no difference", "unclear": "unclear"}


@dataclass(frozen=True)
class PageReport:
    """What was written: size in bytes, examples mined, strips shown and strips left out for size."""

    n_bytes: int
    examples: int
    strips: int
    strips_left_out: int


def write_page(
    path: Path,
    summary: Mapping[str, Any],
    *,
    examples: Sequence[HardExample] = (),
    mined: int | None = None,
    strips: Mapping[str, bytes] | None = None,
    plots: Mapping[str, bytes] | None = None,
    before_after: Sequence[tuple[str, bytes]] = (),
    class_names: Sequence[str] = (),
    truth: Mapping[str, bool] | None = None,
    run: Mapping[str, object] | None = None,
    config_text: str = "",
    videos: Sequence[Mapping[str, object]] = (),
    problems: Sequence[str] = (),
    notes: Sequence[str] = (),
    title: str = "hem report",
    max_bytes: int = 25_000_000,
) -> PageReport:
    """Write the page, whole or not at all.

    Args:
        path: the HTML file.
        summary: as in ``summary.json`` (see hem.reporting.tables).
        examples: mined examples; each is listed, with its evidence.
        mined: how many there are in all (ignore regions need not count), if not all are listed.
        strips: JPEG by example id; those of greatest weight first until ``max_bytes`` is reached.
        plots: SVG or PNG by caption.
        before_after: (caption, JPEG) of the same frame by two detectors.
        class_names: names of labels 1, 2, ….
        truth: by example id, whether it is right (a hard negative that overlaps no object …); ids
            that are absent are unknown.
        run: what was run: command, seed, versions, hardware, by name.
        config_text: the composed config.
        videos: a row for each video.
        problems: what failed or was skipped, one sentence each.
        notes: what a reader of the examples should know, one sentence each.
        title: heading of the page.
        max_bytes: upper limit of the file, for strips only: the rest is always written.

    Raises:
        HemError: if a picture is of no known format, or figures are not finite.
    """
    strips = strips or {}
    try:
        listed = [_row(example, truth or {}) for example in examples]
        body = [
            _head(title, summary, run or {}, config_text),
            _arms(summary),
            _mining(summary),
            _plots(plots or {}),
            _examples(len(examples), notes),
            _pairs(before_after),
            _rest(summary, videos, problems),
            embedded_json("examples-data", {"fields": _FIELDS, "classes": list(class_names), "rows": listed}),
        ]
    except ValueError as error:
        raise HemError(f"{path}: a figure for the page is not finite ({error}); use null") from error
    css, script = _asset("page.css"), _asset("page.js")
    start, end = _frame(title, css, script)
    used = sum(len(part.encode()) for part in (start, *body, end)) + 200
    chosen = _fitting(examples, strips, max_bytes - used)
    body.append(embedded_json("strips-data", chosen))
    document = (start + "\n".join(body) + end).encode()
    with whole_file(path) as temporary:
        temporary.write_bytes(document)
    available = sum(example.example_id in strips for example in examples)
    total = len(examples) if mined is None else mined
    return PageReport(len(document), total, len(chosen), available - len(chosen))


def _asset(name: str) -> str:
    return resources.files("hem.reporting").joinpath("assets", name).read_text(encoding="utf-8")


def _frame(title: str, css: str, script: str) -> tuple[str, str]:
    """Return what comes before and after the body's parts.

    The policy forbids every request and every script but this one, so a report passed on by mail
    cannot reach out, whatever is in the names that it shows.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    start = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{css}</style></head><body>\n"
    )
    return start, f"<script>{script}</script></body></html>\n"


def _number(value: float | None, digits: int = 4) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    rounded = round(float(value), digits)
    return int(rounded) if rounded.is_integer() else rounded


def _row(example: HardExample, truth: Mapping[str, bool]) -> list[object]:
    evidence = {name: _number(value) for name, value in example.evidence.items()}
    return [
        example.example_id,
        example.video_id,
        example.frame_index,
        _number(example.time_s),
        [_number(value, 1) for value in example.box_xyxy],
        example.label,
        example.kind.value,
        _number(example.score),
        _number(example.weight),
        example.rule,
        example.round,
        {name: value for name, value in evidence.items() if value is not None},
        truth.get(example.example_id),
    ]


def _fitting(examples: Sequence[HardExample], strips: Mapping[str, bytes], room: int) -> dict[str, str]:
    chosen: dict[str, str] = {}
    for example in sorted(examples, key=lambda e: (-e.weight, e.example_id)):
        data = strips.get(example.example_id)
        if data is None or example.example_id in chosen:
            continue
        needed = 4 * math.ceil(len(data) / 3) + len(example.example_id) + 6  # base64, quotes and commas
        if needed > room:
            continue
        room -= needed
        chosen[example.example_id] = base64.b64encode(data).decode()
    return chosen


def _head(title: str, summary: Mapping[str, Any], run: Mapping[str, object], config_text: str) -> str:
    links = (("arms", "Arms"), ("mining", "Mining"), ("plots", "Plots"), ("examples", "Mined examples"),
             ("pairs", "Before and after"), ("rest", "Videos, times, problems"))  # fmt: skip
    nav = "".join(f'<a href="#{name}">{words}</a>' for name, words in links)
    shown = {**run, **({"seed": summary["seed"]} if "seed" in summary and "seed" not in run else {})}
    parts = [f"<header><h1>{escape(title)}</h1><nav>{nav}</nav></header>"]
    if shown:
        parts.append(f"<h2>What was run</h2>{pairs(shown)}")
    if config_text:
        parts.append(
            f"<details><summary>The whole config</summary><pre>{escape(config_text)}</pre></details>"
        )
    return "".join(parts)


def _arms(summary: Mapping[str, Any]) -> str:
    rows = comparison_rows(summary)
    seen = [i for i in range(len(METRICS)) if any(row.cells[i].value is not None for row in rows)]
    head = '<th scope="col">arm</th>' + "".join(
        f'<th scope="col" title="{escape(METRICS[i].meaning)}">{escape(METRICS[i].heading)} '
        f"{'↑' if METRICS[i].better == 'higher' else '↓'}</th>"
        for i in seen
    )
    body = ""
    for row in rows:
        name = escape(row.arm) + (' <span class="soft">(control)</span>' if row.role == "control" else "")
        cells = ""
        for i in seen:
            cell = row.cells[i]
            figure, difference = format_cell(cell, METRICS[i])
            verdict = cell.verdict or "same"
            note = (
                f'<span class="difference {verdict}" title="{_SIGNS[verdict]}">{escape(difference)}</span>'
                if difference
                else ""
            )
            cells += f"<td>{escape(figure)}{note}</td>"
        body += f"<tr><td>{name}</td>{cells}</tr>"
    notes = [
        "↑ higher is better, ↓ lower. In brackets: the difference to the control, which had the same extra "
        "training without mined data; green better, red worse, yellow unclear (its interval holds 0).",
        _INTERVALS if summary.get("intervals") else _ONE_RUN,
        MISSING_MEANS + ".",
        *(f"{METRICS[i].heading}: {METRICS[i].meaning}." for i in seen),
    ]
    explained = "<br>".join(escape(note) for note in notes)
    return (
        f'<section id="arms"><h2>Arms</h2><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f'<tbody>{body}</tbody></table></div><p class="soft small">{explained}</p></section>'
    )


def _mining(summary: Mapping[str, Any]) -> str:
    rows = mining_rows(summary)
    shown = table([], rows) if rows else '<p class="soft">Nothing was mined.</p>'
    return f'<section id="mining"><h2>Mining</h2>{shown}</section>'


def _plots(plots: Mapping[str, bytes]) -> str:
    shown = "".join(picture(data, caption) for caption, data in plots.items())
    inner = f'<div class="plots">{shown}</div>' if shown else '<p class="soft">No plots.</p>'
    return f'<section id="plots"><h2>Plots</h2>{inner}</section>'


def _examples(count: int, notes: Sequence[str]) -> str:
    said = "".join(f'<p class="small soft">{escape(note)}.</p>' for note in notes)
    colours = "".join(
        f'<span><i style="background: rgb{colour}"></i>{escape(kind.replace("_", " "))}</span>'
        for kind, colour in COLOURS.items()
    )
    return (
        f'<section id="examples"><h2>Mined examples</h2><p class="small legend">{colours}'
        "Each strip shows the same place in the frames before and after; the frame with the magenta rim is "
        "the mined one.</p><noscript><p>Filtering and pictures need JavaScript.</p></noscript>"
        f"{said}{_asset('controls.html')}"
        f'<p id="count" role="status">{count} examples</p><div id="grid"></div>'
        '<p><button id="more" type="button" hidden>Show more</button></p>'
        '<dialog id="detail" aria-label="One example"><div class="bar"><button id="previous" type="button">'
        '← Previous</button><button id="next" type="button">Next →</button><button id="close" type="button">'
        'Close</button></div><div id="detail-body"></div></dialog></section>'
    )


def _pairs(before_after: Sequence[tuple[str, bytes]]) -> str:
    shown = "".join(picture(data, caption) for caption, data in before_after)
    inner = f'<div class="pairs">{shown}</div>' if shown else '<p class="soft">No pictures.</p>'
    return f'<section id="pairs"><h2>Before and after</h2>{inner}</section>'


def _rest(summary: Mapping[str, Any], videos: Sequence[Mapping[str, object]], problems: Sequence[str]) -> str:
    parts = ['<section id="rest"><h2>Videos</h2>']
    parts.append(records(videos) if videos else f'<p class="soft">{MISSING}</p>')
    seconds = summary.get("seconds") or {}
    parts.append("<h2>Time</h2>")
    if seconds:
        parts.append(table(["stage", "seconds"], [(name, f"{value:.1f}") for name, value in seconds.items()]))
    parts.append("<h2>Failures and skips</h2>")
    items = "".join(f"<li>{escape(problem)}</li>" for problem in problems)
    parts.append(f"<ul>{items}</ul>" if items else '<p class="soft">None.</p>')
    return "".join(parts) + "</section>"
