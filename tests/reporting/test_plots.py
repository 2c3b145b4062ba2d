import io
import xml.etree.ElementTree as ET

import matplotlib
import numpy as np
import pytest
from PIL import Image

from hem.errors import HemError
from hem.reporting import plots


def words(figure):
    root = ET.fromstring(plots.render(figure))
    return " ".join("".join(node.itertext()) for node in root.iter() if node.tag.endswith("text"))


CURVES = {"continued": ([0, 0.5, 1], [1, 0.8, 0.2]), "flickers": ([0, 0.6, 1], [1, 0.9, 0.3])}


@pytest.mark.parametrize(
    "figure",
    [
        plots.pr_curves(CURVES),
        plots.false_alarm_curves({"continued": ([0.1, 0.5], [0, 300])}, reference_recall=0.4),
        plots.purity_yield(
            {"elicited": ([5, 80], [1, 0.6])}, {"elicited": (40, 0.9, "response < 0.25")}, 0.2
        ),
        plots.score_histograms({"continued": [0.2, 0.3], "flickers": []}, threshold=0.5),
    ],
)
def test_both_forms(figure):
    assert plots.render(figure).startswith(b"<?xml")
    image = Image.open(io.BytesIO(plots.render(figure, "png", dpi=50)))
    assert image.size == (260, 180)
    assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 10


def test_names_and_axes():
    text = words(plots.pr_curves(CURVES))
    assert "continued" in text and "flickers" in text and "precision" in text
    assert "response < 0.25" in words(plots.purity_yield({}, {"a": (3, 0.5, "response < 0.25")}))
    assert "flickers (3)" in words(plots.score_histograms({"flickers": [0.1, np.nan, 0.2, 0.3]}))


@pytest.mark.parametrize("name", ["_hidden", "cost $5 and $", r"\frac{", "<b>&", "naïve 日本"])
def test_awkward_names_are_shown_as_they_are(name):
    assert name in words(plots.pr_curves({name: ([0, 1], [1, 0])}))
    assert name in words(plots.purity_yield({name: ([0, 1], [1, 0])}, {name: (1, 0.5, name)}))


@pytest.mark.parametrize(
    "make", [plots.pr_curves, plots.false_alarm_curves, plots.purity_yield, plots.score_histograms]
)
def test_nothing_to_show_is_said(make):
    assert "nothing to show" in words(make({}))


def test_empty_single_and_long_curves():
    plots.render(plots.pr_curves({"empty": ([], []), "one": ([0.5], [0.5]), "nan": ([np.nan], [1])}))
    x = np.linspace(0, 1, 100_000)
    assert len(plots.render(plots.pr_curves({"long": (x, np.sin(40 * x) ** 2)}))) < 60_000
    plots.render(plots.score_histograms({"equal": [0.5] * 9}))


def test_lengths_must_agree():
    with pytest.raises(HemError, match=r"curve of a: 2 x values and 1 y values"):
        plots.pr_curves({"a": ([0, 1], [1])})


def test_no_global_state_and_same_bytes():
    before = dict(matplotlib.rcParams)
    first = plots.render(plots.pr_curves(CURVES))
    assert first == plots.render(plots.pr_curves(CURVES))
    assert dict(matplotlib.rcParams) == before


def test_many_arms_can_be_told_apart():
    styles = {plots._style(i) for i in range(28)}
    assert len(styles) == 28
