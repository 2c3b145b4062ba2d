"""What people decided changes what is taught, and nothing else."""

from dataclasses import replace

import pytest

from hem.ops.rulings import PRIOR, as_mined, calibration, honour, with_verdicts, without_dropped
from hem.structures import Answer, Drop, HardExample, Kind, Rulings, Verdict
from hem.structures.rulings import place_of


def example(frame=0, kind=Kind.HARD_NEGATIVE, box=(10, 10, 30, 30), weight=0.6, rule="hem", video="a.mp4"):
    return HardExample(video, f"digest {video}", frame, 0.0, box, 1, kind, 0.5, weight, rule)


def verdict(one: HardExample, answer: str) -> Verdict:
    return Verdict(
        one.example_id, Answer(answer), place_of(one), one.rule, one.score, one.weight, one.video_id
    )


def test_nothing_decided_changes_nothing():
    mined = [example(0), example(1, Kind.IGNORE, weight=0)]
    assert honour(mined, Rulings()) == mined


def test_each_answer_has_its_effect():
    right, wrong, unsure, unseen = (example(frame) for frame in range(4))
    other = example(5, rule="paper")
    said = [verdict(right, "right"), verdict(wrong, "wrong"), verdict(unsure, "unsure")]
    done = with_verdicts([right, wrong, unsure, unseen, other], said)
    factor = (1 + PRIOR) / (2 + PRIOR)
    assert done[0] == replace(right, weight=1.0)
    assert (done[1].kind, done[1].weight, done[1].box_xyxy) == (Kind.IGNORE, 0.0, wrong.box_xyxy)
    assert done[2].weight == pytest.approx(0.6 * factor)
    assert done[3].weight == pytest.approx(0.6 * factor)
    assert done[4] == other  # another rule was not judged


def test_calibration_is_one_without_answers_and_comes_to_the_share():
    assert calibration([]) == {}
    one = example()
    assert calibration([verdict(one, "unsure")]) == {}
    said = [verdict(example(k), "right" if k % 4 else "wrong") for k in range(4000)]
    assert calibration(said)[(Kind.HARD_NEGATIVE, "hem")] == pytest.approx(0.75, abs=1e-3)
    assert calibration([verdict(one, "right")]) == {(Kind.HARD_NEGATIVE, "hem"): 1.0}


def test_a_heavy_example_confirmed_keeps_its_weight():
    heavy = example(weight=1.7)
    assert with_verdicts([heavy], [verdict(heavy, "right")])[0].weight == 1.7


def test_a_verdict_holds_for_the_same_box_a_little_off():
    one = example(box=(0, 0, 20, 10))
    half = example(box=(0, 0, 20, 20))  # IoU exactly 0.5
    less = example(box=(0, 0, 20, 20.1))
    said = [verdict(one, "wrong")]
    kinds = [with_verdicts([other], said)[0].kind for other in (half, less)]
    assert kinds == [Kind.IGNORE, Kind.HARD_NEGATIVE]
    elsewhere = [
        replace(half, frame_index=1),
        replace(half, label=2),
        replace(half, video_digest="other"),
        replace(half, kind=Kind.PSEUDO_LABEL),
    ]
    assert all(
        new.kind is old.kind for new, old in zip(with_verdicts(elsewhere, said), elsewhere, strict=True)
    )


def test_the_own_id_wins_over_a_neighbour():
    one, near = example(box=(0, 0, 20, 20)), example(box=(0, 0, 20, 21))
    done = with_verdicts([one, near], [verdict(one, "right"), verdict(near, "wrong")])
    assert [e.kind for e in done] == [Kind.HARD_NEGATIVE, Kind.IGNORE]


def test_drops_by_id_place_video_and_rule():
    named, again = example(0), example(0, box=(10, 10, 30, 31))
    video, rule, pseudo = example(video="b.mp4"), example(2, rule="paper"), example(3, Kind.PSEUDO_LABEL)
    ignore = example(4, Kind.IGNORE, rule="paper", weight=0)
    drop = Drop("x", (named.example_id,), ("b.mp4",), "", "", rules=("paper",), places=(place_of(named),))
    done = without_dropped([named, again, video, rule, pseudo, ignore], [drop])
    assert [e.kind for e in done] == [Kind.IGNORE, Kind.IGNORE, Kind.IGNORE, Kind.PSEUDO_LABEL, Kind.IGNORE]
    assert done[-1] == ignore
    assert all(e.video_id == "a.mp4" for e in done)


def test_as_mined_undoes_verdicts_and_places():
    mined = [example(0), example(1), example(2), example(3, Kind.IGNORE, weight=0)]
    drop = Drop("x", (mined[1].example_id,), (), "", "", places=(place_of(mined[1]),))
    said = [verdict(mined[0], "wrong")]
    after = honour(mined, Rulings(tuple(said), (drop,)))
    assert [e.kind for e in after] == [Kind.IGNORE, Kind.IGNORE, Kind.HARD_NEGATIVE, Kind.IGNORE]
    restored = as_mined(after, said, [drop])
    assert [e.example_id for e in restored] == [e.example_id for e in mined]
    assert restored[0].weight == mined[0].weight
    assert [e.kind for e in as_mined(after, said)][1] is Kind.IGNORE


def test_the_last_answer_counts():
    """In the weights of the others, and where two answers are as near: what was said later holds."""
    right, wrong, unseen = (example(frame) for frame in range(3))
    done = with_verdicts([unseen], [verdict(right, "right"), verdict(wrong, "wrong")])
    assert done[0].weight == pytest.approx(0.6 * (1 + PRIOR) / (2 + PRIOR))
    before = example(box=(0, 0, 20, 20))
    again, moved = replace(before, video_id="renamed.mp4"), example(box=(0, 0, 20, 21))
    for answers, kind in ((("wrong", "right"), Kind.HARD_NEGATIVE), (("right", "wrong"), Kind.IGNORE)):
        said = [verdict(one, answer) for one, answer in zip((before, again), answers, strict=True)]
        assert with_verdicts([moved], said)[0].kind is kind
