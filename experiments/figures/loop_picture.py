"""The picture of the loop at the top of the README, made from the files of a finished run.

    python experiments/figures/loop_picture.py runs/quickstart/seed_0 docs/loop.png

Frames, detections, mined boxes and counts are the run's own. Only runs on the embedded world are taken, so
that no picture of third parties is published. The examples shown are chosen by rule (centre_of): right by the
truth, well inside the frame, away from cuts, visible in the frames around, in a frame where several kinds
were mined.
"""

import argparse
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from PIL import Image
from torch import Tensor

from hem.artifacts import whole_file
from hem.artifacts.evidence import load_evidence
from hem.errors import HemError
from hem.reporting.run_report import RunFiles, read_run
from hem.reporting.strips import (
    COLOURS,
    MarkedBox,
    annotated,
    frame_strip,
    marks_of_detections,
    marks_of_examples,
)
from hem.structures import HardExample, Kind, VideoDetections
from hem.structures.evidence import Evidence
from hem.video.stream import reread_frames

AROUND = 2
MARGIN_PX = 12
FRAME_PX = 312  # as wide as the panel is drawn, so that lines stay sharp
MOST_BYTES = 300_000
INK, SOFT = "#20242a", "#5d6672"


def centre_of(files: RunFiles, stored: Mapping[str, Evidence], kind: Kind) -> HardExample:
    """Return the example to show: right by the truth, away from the border and from cuts, plainly seen."""
    right = files.measured["right"]
    kinds: dict[tuple[str, int], set[Kind]] = {}
    for one in files.examples:
        kinds.setdefault((one.video_id, one.frame_index), set()).add(one.kind)

    def shown_whole(example: HardExample) -> bool:
        video, index = files.videos[example.video_id], example.frame_index
        left, top, end, bottom = example.box_xyxy
        inside = min(left, top, (video.width or 0) - end, (video.height or 0) - bottom) >= MARGIN_PX
        cuts = stored[example.video_id].cut_before[max(0, index - AROUND + 1) : index + AROUND + 1]
        return (
            inside and not cuts.any() and AROUND <= index < len(stored[example.video_id].cut_before) - AROUND
        )

    candidates = [e for e in files.examples if e.kind is kind and right.get(e.example_id)]
    candidates = [e for e in candidates if shown_whole(e)] or candidates
    if not candidates:
        raise HemError(f"the run mined no {kind.value} that is right by the truth; take another run")

    def worth(example: HardExample) -> tuple[bool, int, float]:
        sure = example.weight if kind is Kind.HARD_POSITIVE else example.score or 0.0
        visible = example.evidence.get("visible", 0.0) >= 0.9  # its picture is found in the frames around
        return visible, len(kinds[example.video_id, example.frame_index]), sure

    return max(candidates, key=worth)


def frames_round(files: RunFiles, example: HardExample) -> dict[int, Tensor]:
    """Return the frames round an example by index."""
    wanted = range(max(0, example.frame_index - AROUND), example.frame_index + AROUND + 1)
    return dict(reread_frames(files.videos[example.video_id], list(wanted)))


def strip(files: RunFiles, found: VideoDetections, example: HardExample, threshold: float) -> np.ndarray:
    """Return the frames round an example side by side: what is detected there, and the mined box."""
    frames = frames_round(files, example)
    indices = sorted(frames)
    # a missed object is shown with what the detector stood by round it, a flicker with all of its rank
    level = min(threshold, example.score or threshold) if example.kind is Kind.HARD_NEGATIVE else threshold
    marks: list[list[MarkedBox]] = []
    for index in indices:
        mine = marks_of_examples([example]) if index == example.frame_index else []
        marks.append([*marks_of_detections(found.frame(index), level), *mine])
    data = frame_strip(
        [frames[index] for index in indices],
        marks,
        example.box_xyxy,
        focus=indices.index(example.frame_index),
        side=150,
        max_bytes=80_000,
    )
    return np.asarray(Image.open(io.BytesIO(data)))


def show(axes: Axes, pixels: np.ndarray, title: str, colour: str = INK) -> None:
    """Draw a picture with its title."""
    axes.imshow(pixels, interpolation="lanczos")
    axes.set_axis_off()
    axes.set_title(title, fontsize=10.5, color=colour, loc="left", pad=4)


def arrow(figure: Figure, start: tuple[float, float], end: tuple[float, float], bend: float = 0.0) -> None:
    """Draw an arrow between two places of the figure, (0, 0) bottom left to (1, 1)."""
    figure.add_artist(
        FancyArrowPatch(
            start,
            end,
            transform=figure.transFigure,
            connectionstyle=f"arc3,rad={bend}",
            arrowstyle="-|>",
            mutation_scale=18,
            linewidth=2.2,
            color=SOFT,
        )
    )


def tone(kind: Kind) -> tuple[float, float, float]:
    """Return a kind's colour, darker, as text on white needs it."""
    red, green, blue = (0.8 * one / 255 for one in COLOURS[kind.value])
    return red, green, blue


def counted(files: RunFiles, key: str, what: str) -> str:
    """Return how many of a kind were mined and how many of those are right."""
    mining = files.summary["mining"]
    pure = mining.get(f"purity_{key}")
    return f"{mining[key]} {what}" + ("" if pure is None else f", {pure:.0%} right by the truth")


def draw(files: RunFiles) -> Figure:
    """Return the picture."""
    threshold = files.summary["operating_point"]["threshold"]
    evidence = files.evidence
    if evidence is None:
        raise HemError("the run mined nothing")
    folders = [path.parent for path in sorted(evidence.glob("*/detections.parquet"))]
    stored = {one.video_id: one for one in map(load_evidence, folders)}
    found = {name: one.detections for name, one in stored.items()}
    negative = centre_of(files, stored, Kind.HARD_NEGATIVE)
    positive = centre_of(files, stored, Kind.HARD_POSITIVE)

    figure = Figure(figsize=(12.4, 4.3), facecolor="white")
    FigureCanvasAgg(figure)
    frame = frames_round(files, negative)[negative.frame_index]
    level = min(threshold, negative.score or threshold)
    seen = marks_of_detections(found[negative.video_id].frame(negative.frame_index), level)
    detected = figure.add_axes((0.012, 0.17, 0.235, 0.66))
    show(detected, annotated(frame, seen, width=FRAME_PX, scores=True), "")
    taught = [
        e for e in files.examples if (e.video_id, e.frame_index) == (negative.video_id, negative.frame_index)
    ]
    taught.sort(key=lambda e: e.kind is not Kind.IGNORE)  # what teaches is drawn over what is ignored
    rules = [
        (0.55, negative, "gone before and after: a hard negative", Kind.HARD_NEGATIVE),
        (0.15, positive, "missing for a moment: a hard positive", Kind.HARD_POSITIVE),
    ]
    for bottom, example, words, kind in rules:
        axes = figure.add_axes((0.287, bottom, 0.42, 0.29))
        show(axes, strip(files, found[example.video_id], example, threshold), words)
        axes.title.set_color(tone(kind))
    replay = figure.add_axes((0.753, 0.17, 0.235, 0.66))
    show(replay, annotated(frame, marks_of_examples(taught), width=FRAME_PX, scores=False), "")

    heads = (
        (0.012, "1  Detect", "every frame of unlabelled video"),
        (0.287, "2  Mine", "where the detector contradicts itself"),
        (0.753, "3  Replay", "partly labelled frames, by weight"),
    )
    for x, name, words in heads:
        figure.text(x, 0.945, name, fontsize=15, weight="bold", color=INK)
        figure.text(x, 0.885, words, fontsize=10.5, color=SOFT)
    arrow(figure, (0.252, 0.5), (0.282, 0.5))
    arrow(figure, (0.716, 0.5), (0.746, 0.5))
    arrow(figure, (0.87, 0.155), (0.13, 0.155), bend=-0.075)
    figure.text(
        0.5, 0.06, "4  Retrain on labels + replay, beside a control with the same extra steps",
        fontsize=12, weight="bold", color=INK, ha="center",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 3},
    )  # fmt: skip
    frames = files.summary["mining"]["frames"]
    both = (
        counted(files, "hard_negatives", "hard negatives"),
        counted(files, "hard_positives", "hard positives"),
    )
    words = f"this run: {frames} frames; {both[0]}; {both[1]}"
    figure.text(0.5, 0.012, words, fontsize=9, color=SOFT, ha="center")
    legend(figure)
    return figure


def legend(figure: Figure) -> None:
    """Name the colours of the boxes."""
    kinds = (("detection", "detection"), *((kind.value, kind.value.replace("_", " ")) for kind in Kind))
    x = 0.287
    for kind, words in kinds:
        colour = tuple(one / 255 for one in COLOURS[kind])
        figure.text(x, 0.112, "\u25a0", fontsize=11, color=colour)
        figure.text(x + 0.013, 0.114, words, fontsize=8.5, color=SOFT)
        x += 0.028 + 0.0058 * len(words)


def few_colours(image: Image.Image) -> Image.Image:
    """Return the picture in 256 colours, those of the boxes exactly: a small part of them would be lost."""
    kept = [channel for colour in [*COLOURS.values(), (255, 255, 255)] for channel in colour]
    others = 256 - len(kept) // 3
    palette = image.quantize(others, method=Image.Quantize.MEDIANCUT).getpalette() or []
    chosen = Image.new("P", (1, 1))
    chosen.putpalette([*palette[: 3 * others], *kept])
    return image.quantize(palette=chosen, dither=Image.Dither.NONE)


def main() -> None:
    """Make the picture of a run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, help="a finished run on the embedded world")
    parser.add_argument("picture", type=Path, help="PNG to write")
    given = parser.parse_args()
    files = read_run(given.run)
    if files.config["data"].get("_target_") != "hem.data.embedded.embedded":
        raise SystemExit(f"{given.run} is not a run on the embedded world: its pictures are not hem's own")
    buffer = io.BytesIO()
    draw(files).savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    image = few_colours(Image.open(buffer).convert("RGB"))
    packed = io.BytesIO()
    image.save(packed, "PNG", optimize=True)
    if packed.tell() > MOST_BYTES:
        raise SystemExit(f"the picture has {packed.tell()} bytes, more than {MOST_BYTES}")
    with whole_file(given.picture) as temporary:
        temporary.write_bytes(packed.getvalue())
    print(f"{given.picture}: {packed.tell()} bytes")


if __name__ == "__main__":
    main()
