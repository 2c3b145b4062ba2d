"""Judging mined examples by eye: what to show next, how pure each rule is, and other tools' formats."""
