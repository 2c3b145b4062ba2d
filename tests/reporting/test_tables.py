import io

import pytest
from rich.console import Console

from hem.reporting.tables import (
    METRICS,
    Cell,
    comparison_rows,
    comparison_table,
    format_cell,
    format_number,
    mining_rows,
    mining_table,
    print_comparison,
)

INDEX = {metric.key: i for i, metric in enumerate(METRICS)}


def cell(summary, arm, key):
    row = next(row for row in comparison_rows(summary) if row.arm == arm)
    return row.cells[INDEX[key]]


def printed(summary, width=160):
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    print_comparison(summary, console)
    return console.file.getvalue()


def test_order_and_roles(summary):
    assert [(row.arm, row.role) for row in comparison_rows(summary)] == [
        ("baseline", "baseline"),
        ("continued", "control"),
        ("flickers", "arm"),
        ("flickers_and_gaps", "arm"),
    ]


def test_differences_are_to_the_control(summary):
    assert cell(summary, "flickers", "AP").difference == pytest.approx(0.02)
    assert cell(summary, "flickers", "false_alarms_per_minute").difference == -15.5
    assert cell(summary, "baseline", "AP").difference is None
    assert cell(summary, "continued", "AP").difference is None


def test_given_difference_wins(summary):
    summary["differences"] = {"flickers": {"AP": 0.015, "AP50": None}}
    assert cell(summary, "flickers", "AP").difference == 0.015
    assert cell(summary, "flickers", "AP50").difference == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("arm", "key", "verdict"),
    [
        ("flickers", "recall", "better"),
        ("flickers", "false_alarms_per_minute", "better"),  # fewer are better
        ("flickers", "AP", "unclear"),  # its interval holds 0
        ("flickers", "flickers_per_minute", "same"),
        ("flickers_and_gaps", "AP", "worse"),
        ("flickers_and_gaps", "false_alarms_per_minute", None),  # not measured is not compared
        ("baseline", "AP", None),
    ],
)
def test_verdicts(summary, arm, key, verdict):
    assert cell(summary, arm, key).verdict == verdict


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [([0.0, 0.1], "unclear"), ([-0.1, 0.0], "unclear"), ([1e-9, 0.1], "better"), ([None, 0.1], "better")],
)
def test_interval_boundary(summary, interval, verdict):
    summary["intervals"]["flickers"]["AP"] = interval
    assert cell(summary, "flickers", "AP").verdict == verdict


def test_nan_is_not_measured(summary):
    summary["arms"]["flickers"]["AP"] = float("nan")
    assert cell(summary, "flickers", "AP") == Cell(None)


@pytest.mark.parametrize(
    ("value", "digits", "signed", "text"),
    [
        (None, 2, True, "\u2013"),
        (0.12345, 3, False, "0.123"),
        (0.5, 1, True, "+0.5"),
        (-0.5, 1, True, "-0.5"),
        (-0.0004, 3, True, "±0.000"),
        (-0.0004, 3, False, "0.000"),
        (61, 0, False, "61"),
    ],
)
def test_format_number(value, digits, signed, text):
    assert format_number(value, digits, signed) == text


def test_format_cell(summary):
    metric = METRICS[INDEX["false_alarms_per_minute"]]
    assert format_cell(cell(summary, "flickers", metric.key), metric) == ("20.0", "(-15.5 [-20.0, -11.0])")
    assert format_cell(cell(summary, "flickers_and_gaps", metric.key), metric) == ("\u2013", "")


def test_printed(summary):
    text = printed(summary)
    for expected in (
        "continued (control)",
        "(-15.5 [-20.0, -11.0])",
        "AP ↑",
        "false alarms / min ↓",
        "0.885",
    ):
        assert expected in text
    assert "it does not mean 0" in text and "interval of the difference" in text


def test_note_on_missing_only_where_something_is_missing(summary):
    del summary["arms"]["flickers_and_gaps"], summary["mining"]
    assert "does not mean 0" not in printed(summary)


def test_column_that_no_arm_has_is_left_out(summary):
    for figures in summary["arms"].values():
        del figures["flickers_per_minute"]
    assert "flickers / min" not in printed(summary)


def test_no_control_is_said(summary):
    del summary["arms"]["continued"]
    assert cell(summary, "flickers", "AP").difference is None
    assert "no arm 'continued' was run" in printed(summary)


def test_names_are_not_markup(summary):
    summary["arms"]["[red]x[/red] [/]"] = {"AP": 0.1}
    assert "[red]x[/red] [/]" in printed(summary, width=220)


def test_empty():
    assert comparison_rows({}) == []
    assert mining_table({}) is None
    assert comparison_table({}).row_count == 0


def test_the_control_is_the_one_the_summary_names(summary):
    summary["control"] = "flickers"
    rows = {row.arm: row for row in comparison_rows(summary)}
    assert (rows["flickers"].role, rows["continued"].role) == ("control", "arm")
    assert rows["continued"].cells[0].difference == pytest.approx(-0.02)
    assert list(rows) == ["baseline", "flickers", "continued", "flickers_and_gaps"]
    assert comparison_rows(summary, control="continued")[1].arm == "continued"


def test_purity_comes_with_its_interval(summary):
    found = {"value": 0.885, "low": 0.78, "high": 0.94, "hits": 54, "count": 61}
    summary["mining"]["purity"] = {"hard_negative": found, "hard_positive": {"low": None, "count": 0}}
    rows = dict(mining_rows(summary))
    assert next(v for k, v in rows.items() if "hard negatives (" in k) == "0.885 [0.780, 0.940] (54 of 61)"
    assert next(v for k, v in rows.items() if "hard positives (" in k) == "\u2013"
