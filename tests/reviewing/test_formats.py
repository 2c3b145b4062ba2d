"""Verdicts survive the way through other tools' layouts."""

import json
from xml.etree import ElementTree

import pytest

from hem.errors import HemError
from hem.reviewing.formats import (
    Picture,
    Shown,
    claim,
    label_studio_view,
    read_answers,
    to_coco,
    to_fiftyone,
    to_label_studio,
)
from hem.structures import Answer, Kind

NAMES = ("cat", 'dog "<&>"')
WRITERS = {"coco": to_coco, "label_studio": to_label_studio, "fiftyone": to_fiftyone}


@pytest.fixture
def shown(examples):
    mined = examples(3) + examples(1, Kind.PSEUDO_LABEL, first=50)
    answers = [Answer.RIGHT, Answer.WRONG, None, Answer.UNSURE]
    return [
        Shown(e, Picture(f"images/{e.frame_index}.jpg", 100, 50), a)
        for e, a in zip(mined, answers, strict=True)
    ]


@pytest.mark.parametrize("form", WRITERS)
def test_round_trip(tmp_path, shown, form):
    path = tmp_path / "f.json"
    path.write_text(json.dumps(WRITERS[form](shown, NAMES)))
    expected = {one.example.example_id: one.answer for one in shown if one.answer is not None}
    assert read_answers(path, form) == expected


@pytest.mark.parametrize("form", WRITERS)
def test_no_answers_yet_is_said(tmp_path, shown, form):
    path = tmp_path / "f.json"
    path.write_text(json.dumps(WRITERS[form]([Shown(one.example, one.picture) for one in shown], NAMES)))
    with pytest.raises(HemError, match="holds no verdict"):
        read_answers(path, form)
    with pytest.raises(HemError, match=r"is a folder; name the JSON file with the answers in it \(f\.json\)"):
        read_answers(tmp_path, form)


def test_layouts(shown):
    coco = to_coco(shown, NAMES)
    assert coco["annotations"][0]["bbox"] == [1, 1, 8, 8] and coco["annotations"][1]["verdict"] == "wrong"
    assert {image["id"] for image in coco["images"]} == {a["image_id"] for a in coco["annotations"]}
    task = to_label_studio(shown, NAMES)[0]
    value = task["predictions"][0]["result"][0]["value"]
    assert (value["x"], value["y"], value["width"], value["height"]) == (1.0, 2.0, 8.0, 16.0)  # percent
    label = to_fiftyone(shown, NAMES)["labels"]["0"][0]
    assert label["bounding_box"] == [0.01, 0.02, 0.08, 0.16] and label["label"] == 0
    view = ElementTree.fromstring(label_studio_view(NAMES))
    assert [one.get("value") for one in view.iter("Label")] == list(NAMES)
    assert [one.get("value") for one in view.iter("Choice")] == ["right", "wrong", "unsure"]


def test_what_tools_make_of_it(tmp_path):
    path = tmp_path / "f.json"
    path.write_text(
        json.dumps({"annotations": [{"attributes": {"example_id": "a", "verdict": "wrong"}}, {}]})
    )
    assert read_answers(path, "coco") == {"a": Answer.WRONG}
    choice = {"from_name": "verdict", "value": {"choices": ["right"]}}
    other = {"from_name": "verdict", "value": {"choices": ["wrong"]}}
    path.write_text(json.dumps([
        {"data": {"example_id": "a"}, "annotations": [{"result": [other]}, {"result": [choice]},
                                                      {"result": [other], "was_cancelled": True}]},
        {"data": {"example_id": "b"}, "annotations": []},
        {"example_id": "c", "verdict": "unsure"},
    ]))  # fmt: skip
    assert read_answers(path, "label_studio") == {"a": Answer.RIGHT, "c": Answer.UNSURE}
    tagged = {"tags": ["odd", "wrong"], "attributes": {"example_id": "a"}}
    path.write_text(json.dumps({"labels": {"x": [tagged], "y": None}}))
    assert read_answers(path, "fiftyone") == {"a": Answer.WRONG}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense", "not readable JSON"),
        ("[]", "layout of format=coco"),
        ("{}", "layout of format=coco"),
        ('{"annotations": [{"example_id": "a", "verdict": "maybe"}]}', "maybe"),
        ('{"annotations": [3]}', "layout"),
    ],
)
def test_wrong_files_are_named(tmp_path, text, words):
    path = tmp_path / "f.json"
    path.write_text(text)
    with pytest.raises(HemError, match=words):
        read_answers(path, "coco")
    with pytest.raises(HemError, match="not there"):
        read_answers(tmp_path / "none.json", "coco")


def test_claims(examples):
    assert claim(examples(1)[0], "cat") == "There is no cat in the red box."
    assert claim(examples(1, Kind.HARD_POSITIVE)[0], "cat") == "The box covers a cat."
