"""What can never be answered is found out on an empty video; what only real scores tell is left open."""

import pytest

from hem.errors import HemError
from hem.mining.presets import Elicited, Hem, Paper, PseudoLabels, Random, Score, Temporal
from hem.mining.score_scale import ScoreScale
from hem.mining.trial import try_out
from hem.structures.evidence import CollectSettings

ASKED = ("mirror", "noise", "grey")
ALL = [Paper, Temporal, Elicited, Hem, Random, Score, PseudoLabels]


@pytest.mark.parametrize("kind", ALL)
def test_every_preset_as_it_is_can_be_answered_from_what_it_needs(kind):
    try_out(kind(), CollectSettings(variants=ASKED))


@pytest.mark.parametrize("scale", ["raw", "quantile", "calibrated"])
@pytest.mark.parametrize(
    ("preset", "collect", "said"),
    [
        ({"window": 9}, {}, "mining.window is 9"),
        ({"max_gap": 6}, {}, "mining.max_gap is 6"),
        ({"iou_threshold": 0.6}, {}, "mining.iou_threshold is 0.6"),
        ({"min_variants": 4}, {}, "mining.min_variants is 4"),
        ({"still_change": 0.1}, {}, "still_s"),
        ({}, {"box_margin": None}, "box_margin"),
        ({}, {"variants": ("mirror", "sharper")}, "'sharper' is unknown"),
        ({}, {"floor_score": 0.9}, "0.2..0.8|0.9..inf"),  # nothing is kept that the ranges hold
    ],
)
def test_what_no_scores_could_mend_is_refused_on_every_scale(scale, preset, collect, said):
    with pytest.raises(HemError, match=said):
        try_out(Hem(score_scale=scale, **preset), CollectSettings(**{"variants": ASKED, **collect}))


@pytest.mark.parametrize("scale", ["quantile", "calibrated"])
def test_settings_that_scores_decide_are_left_open(scale):
    apart = CollectSettings(variants=ASKED, score_threshold=(0.6, 0.8), neighbour_threshold=(0.1, 0.3))
    try_out(Hem(score_scale=scale, score_threshold=0.99, label_threshold=0.995), apart)
    with pytest.raises(HemError, match=r"must be in 0\.\.1"):
        try_out(Hem(score_scale=scale, score_threshold=1.5), apart)


def test_raw_scores_and_a_known_scale_are_held_to_the_ranges():
    with pytest.raises(HemError, match=r"mining.score_threshold is 0.9"):
        try_out(Temporal(score_scale="raw", score_threshold=0.9), CollectSettings())
    known = ScoreScale.calibrated([0.05] * 20 + [0.95] * 20, [False] * 20 + [True] * 20)
    with pytest.raises(HemError, match=r"mining.score_threshold is 0.95"):
        try_out(Temporal(score_scale="calibrated"), CollectSettings(), known)
    with pytest.raises(HemError, match="search_margin"):
        try_out(Paper(), CollectSettings(search_margin=None))
