"""What the rules find in a published detector's output on real video, held against its truth."""

import os
from importlib import import_module
from pathlib import Path

import pytest

from hem.mining.run import mine
from hem.structures import Kind

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("HEM_SHARED", ROOT.parent / "shared")) / "data" / "mot"


@pytest.mark.skipif(not DATA.is_dir(), reason=f"the published sequences are not at {DATA}")
def test_negatives_of_a_published_detector_are_false_and_gaps_are_found(monkeypatch):
    """KITTI-17: purity 0.9 or more at the yield of plain one-frame isolation, which is 54 of 67."""
    monkeypatch.syspath_prepend(str(ROOT / "experiments" / "studies"))
    study = import_module("mot_det_purity")
    evidence = study.load(DATA / "KITTI-17", study.SEQUENCES["KITTI-17"])
    truth = study.Truth(DATA / "KITTI-17" / "gt.txt")
    examples = mine([evidence], study.presets()["hem (no disturbed frames)"])
    false, true = (
        truth.verdicts([e for e in examples if e.kind is kind])
        for kind in (Kind.HARD_NEGATIVE, Kind.HARD_POSITIVE)
    )
    counted = false[false >= 0]
    assert (counted == 0).sum() >= 54
    assert (counted == 0).mean() >= 0.9
    assert len(true) >= 4 and (true == 1).all()
