"""Hard examples in columns are the list they stand for, in a fraction of its memory."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from hem.artifacts import examples as examples_file
from hem.artifacts import load_examples, save_coco, save_examples
from hem.ops.rulings import honour
from hem.structures import Answer, Drop, Kind, Rulings, Verdict, VideoInfo, example_list
from hem.structures.example_list import ExampleColumns, ExampleList, counts_of, in_order
from hem.structures.rulings import place_of


def columns(count, video="a.mp4", seed=0):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 90, (count, 2)).round(1)
    return ExampleColumns(
        video_id=video,
        video_digest=f"digest {video}",
        rule="hem",
        round=1,
        frame_index=np.sort(rng.integers(0, max(count // 3, 1), count)),
        time_s=rng.uniform(0, 9, count),
        boxes_xyxy=np.concatenate([low, low + rng.integers(1, 9, (count, 2))], axis=1),
        labels=rng.integers(1, 4, count),
        kind=rng.integers(0, 4, count).astype(np.int8),
        scores=np.where(rng.random(count) < 0.3, np.nan, rng.random(count)),
        weights=rng.random(count),
        evidence={name: np.where(rng.random(count) < 0.5, np.nan, 0.5) for name in ("visible", "support")},
    )


@pytest.fixture
def two(monkeypatch):
    monkeypatch.setattr(example_list, "SLICE", 16)
    monkeypatch.setattr(examples_file, "SLICE", 16)
    return ExampleList.joined([ExampleList([columns(70, "b.mp4")]), ExampleList([columns(41, seed=1)])])


def test_it_is_the_list_it_stands_for(two):
    as_list = list(two)
    assert len(two) == len(as_list) == 111 and two == as_list and as_list == two
    assert two != as_list[:-1] and two != [*as_list[:-1], as_list[0]]
    assert (two[0], two[70], two[-1]) == (as_list[0], as_list[70], as_list[-1])
    assert two[60:90:3] == as_list[60:90:3] and two[::-1] == as_list[::-1]
    assert [e.video_id for e in two] == ["b.mp4"] * 70 + ["a.mp4"] * 41
    assert {e.score is None for e in two} == {True, False}
    with pytest.raises(IndexError):
        two[111]
    assert counts_of(two) == counts_of(as_list) and sum(counts_of(two).values()) == 111
    assert list(ExampleList()) == [] and ExampleList() == [] and counts_of(ExampleList()) == {}


def test_sorting_and_files_are_those_of_the_list(two, tmp_path):
    as_list = list(two)
    assert in_order(two) == in_order(as_list)
    videos = [VideoInfo("a.mp4", width=100, height=80)]
    for name, given in (("lazy", two), ("list", as_list)):
        save_examples(tmp_path / f"{name}.parquet", given, class_names=("x", "y", "z"))
        save_coco(tmp_path / f"{name}.json", given, videos, ("x", "y", "z"))
    assert load_examples(tmp_path / "lazy.parquet")[0] == as_list
    assert (tmp_path / "lazy.json").read_text() == (tmp_path / "list.json").read_text()
    save_examples(tmp_path / "none.parquet", ExampleList(), class_names=("x",))
    none, header = load_examples(tmp_path / "none.parquet")
    assert (none, header["class_names"]) == ([], ["x"])


def test_rulings_change_it_as_they_change_the_list(two):
    as_list = list(two)
    judged = [one for one in as_list if one.kind is not Kind.IGNORE]
    said = tuple(
        Verdict(one.example_id, Answer(answer), place_of(one), one.rule, one.score, one.weight, one.video_id)
        for one, answer in zip(judged, ["right", "wrong", "unsure", "wrong"] * 5, strict=False)
    )
    gone = Drop("one", (judged[30].example_id,), (), "", "")
    for drops in ((), (gone,), (replace(gone, video_ids=("b.mp4",)),)):
        after = honour(two, Rulings(said, drops))
        assert isinstance(after, ExampleList) and after == honour(as_list, Rulings(said, drops))
        assert after != as_list
    assert list(two) == as_list  # the mined ones are as they were


def test_memory_of_answering_and_writing_hardly_grows_with_the_number_of_examples(monkeypatch, tmp_path):
    monkeypatch.setattr(example_list, "SLICE", 128)
    monkeypatch.setattr(examples_file, "SLICE", 128)

    def peak(count):
        mined = ExampleList([columns(count)])
        said = Verdict("0" * 16, Answer("right"), place_of(mined[0]), "hem", 0.5, 0.5, "a.mp4")
        tracemalloc.start()
        after = honour(mined, Rulings((said,), ()))
        save_examples(tmp_path / "e.parquet", after, class_names=("x", "y", "z"))
        save_coco(tmp_path / "e.json", after, [], ("x", "y", "z"))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(300)  # what is imported and cached once
    growth = (peak(4000) - peak(1000)) / 3000
    assert growth < 250, f"{growth:.0f} bytes an example; as objects they take 680"
