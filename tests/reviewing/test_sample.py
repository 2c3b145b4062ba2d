"""The sample is random, stratified, stable, and never shows an example twice."""

from collections import Counter
from itertools import islice

from hem.reviewing.sample import NO_SCORE, Group, Sample, strata_of
from hem.structures import Kind


def test_strata_are_kind_rule_and_tercile(examples):
    mined = examples(99, score=lambda k: k / 98)
    found = strata_of(mined)
    assert Counter(stratum.band for stratum in found.values()) == {0: 33, 1: 33, 2: 33}
    assert found[mined[0].example_id].band == 0 and found[mined[98].example_id].band == 2
    silent = examples(3, Kind.HARD_POSITIVE, score=lambda k: None)
    assert {stratum.band for stratum in strata_of(silent).values()} == {NO_SCORE}
    assert strata_of(examples(3, Kind.IGNORE)) == {}
    assert len({s.group for s in strata_of([*mined, *examples(5, rule="paper", first=200)]).values()}) == 2


def test_every_example_comes_once(examples):
    mined = examples(50) + examples(7, Kind.PSEUDO_LABEL, first=100) + examples(5, Kind.IGNORE, first=200)
    sample = Sample(mined)
    order = list(sample.upcoming(()))
    assert sorted(order) == sorted(e.example_id for e in mined if e.kind is not Kind.IGNORE)
    assert list(sample.upcoming(order[:20])) == order[20:]


def test_groups_take_turns_and_bands_keep_their_share(examples):
    mined = examples(600) + examples(30, Kind.HARD_POSITIVE, first=1000)
    sample = Sample(mined)
    first = [sample.strata[one] for one in islice(sample.upcoming(()), 40)]
    assert Counter(s.group.kind for s in first) == {Kind.HARD_NEGATIVE: 20, Kind.HARD_POSITIVE: 20}
    bands = Counter(s.band for s in first if s.group.kind is Kind.HARD_NEGATIVE)
    assert max(bands.values()) - min(bands.values()) <= 1


def test_a_group_known_well_enough_comes_last(examples):
    mined = examples(10) + examples(10, Kind.HARD_POSITIVE, first=100)
    sample = Sample(mined)
    order = list(sample.upcoming((), [Group(Kind.HARD_NEGATIVE, "hem")]))
    assert {sample.strata[one].group.kind for one in order[:10]} == {Kind.HARD_POSITIVE}


def test_order_depends_on_the_seed_and_not_on_other_examples(examples):
    mined = examples(40)
    order = list(Sample(mined, 1).upcoming(()))
    assert order == list(Sample(mined[::-1], 1).upcoming(()))
    assert order != list(Sample(mined, 2).upcoming(()))
    more = list(Sample(mined + examples(9, Kind.PSEUDO_LABEL, first=90), 1).upcoming(()))
    assert [one for one in more if one in set(order)] == order


def test_the_order_within_a_stratum_is_not_that_of_time(examples):
    mined = examples(300, score=lambda k: 0.5)
    frames = {e.example_id: e.frame_index for e in mined}
    shown = [frames[one] for one in islice(Sample(mined).upcoming(()), 60)]
    assert 100 < sum(shown) / len(shown) < 200
