import base64
import json
import re
import time
from html.parser import HTMLParser

import pytest
import torch

from hem.errors import HemError
from hem.reporting import plots
from hem.reporting.markup import embedded_json, escape, image_uri
from hem.reporting.page import write_page
from hem.reporting.shown import best_first
from hem.reporting.strips import MarkedBox, before_after, frame_strip
from hem.structures import HardExample, Kind

EVIL = "</script><script>window.hit=1</script><img src=x onerror=window.hit=2>\"'&<!--"
VOID = {"meta", "img", "input", "br"}


class Reader(HTMLParser):
    """Collects tags and text, and insists that every tag is closed in order."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.text, self.scripts, self.addresses = [], [], [], {}, []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action", "srcset")]
        if tag not in VOID:
            self.open.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1][0] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1][0] == "script":
            self.scripts[self.open[-1][1].get("id", "code")] = data
        elif not self.open or self.open[-1][0] != "style":
            self.text.append(data)


def read(path):
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == []
    return reader


def strip(size=60):
    frame = torch.arange(96, dtype=torch.uint8).repeat(3, 64, 1)
    return frame_strip(
        [frame] * 5, [[MarkedBox((10, 10, 30, 30), "hard_negative")]] * 5, (10, 10, 30, 30), side=size
    )


@pytest.fixture
def full(tmp_path, summary, examples):
    found = examples(200)
    path = tmp_path / "report.html"
    report = write_page(
        path,
        summary,
        examples=found,
        strips={e.example_id: strip() for e in found},
        plots={"PR curve": plots.render(plots.pr_curves({"flickers": ([0, 1], [1, 0])}))},
        before_after=[("frame 3", before_after(torch.zeros(3, 40, 60, dtype=torch.uint8), [], []))],
        class_names=("cat", "dog"),
        truth={e.example_id: i % 3 > 0 for i, e in enumerate(found)},
        run={"command": "python -m hem.train +experiment=quickstart"},
        config_text="seed: 3",
        videos=[{"video": "clip_0.mp4", "frames": 300}, {"video": "clip_1.mp4", "purity": 0.5}],
        problems=["clip_9.mp4 could not be opened"],
    )
    return path, found, report


def test_content(full):
    path, found, report = full
    reader = read(path)
    text = " ".join(reader.text)
    for expected in (
        "flickers_and_gaps",
        "(control)",
        "(-15.5 [-20.0, -11.0])",
        "hard negatives",
        "0.885",
        "PR curve",
        "frame 3",
        "seed: 3",
        "clip_1.mp4",
        "clip_9.mp4 could not be opened",
        "python -m hem.train",
        "it does not mean 0",
    ):
        assert expected in text
    data = json.loads(reader.scripts["examples-data"])
    row = dict(zip(data["fields"], data["rows"][7], strict=True))
    assert (row["id"], row["kind"], row["score"], row["right"]) == (
        found[7].example_id,
        found[7].kind.value,
        0.07,
        True,
    )
    assert row["evidence"] == {"ncc_before": 0, "response": 0.6364, "track_id": 7}
    assert len(json.loads(reader.scripts["strips-data"])) == 200
    assert (report.examples, report.strips, report.strips_left_out) == (200, 200, 0)
    assert report.n_bytes == path.stat().st_size


def test_nothing_comes_from_outside(full):
    reader = read(full[0])
    assert reader.addresses
    assert all(address.startswith(("data:image/", "#")) for address in reader.addresses)
    assert not [tag for tag, _ in reader.tags if tag in ("link", "iframe", "object", "embed")]
    style = re.search(r"<style>(.*?)</style>", full[0].read_text(), re.S)[1]
    assert "url(" not in style and "@import" not in style
    policy = next(a["content"] for tag, a in reader.tags if tag == "meta" and "http-equiv" in a)
    assert "default-src 'none'" in policy and "unsafe-inline'; script" in policy


def evil_page(tmp_path):
    mined = [
        HardExample(EVIL, "d", 1, 0.1, (1, 1, 9, 9), 1, Kind.HARD_NEGATIVE, 0.5, 1.0, EVIL, 1, {EVIL: 0.5}),
        HardExample("b.mp4", "d", 2, 0.1, (1, 1, 9, 9), 1, Kind.PSEUDO_LABEL, 0.5, 1.0, "__proto__", 1, {}),
    ]
    path = tmp_path / "evil.html"
    write_page(
        path,
        {"arms": {EVIL: {"AP": 0.5}, "continued": {"AP": 0.4}}, "seconds": {EVIL: 1.0}, "seed": EVIL},
        examples=mined,
        strips={e.example_id: strip() for e in mined},
        plots={EVIL: plots.render(plots.pr_curves({EVIL: ([0, 1], [1, 0]), "_$a$": ([0], [1])}))},
        before_after=[(EVIL, before_after(torch.zeros(3, 40, 60, dtype=torch.uint8), [], []))],
        class_names=(EVIL,),
        run={EVIL: EVIL},
        config_text=EVIL,
        videos=[{EVIL: EVIL}],
        problems=[EVIL],
        title=EVIL,
    )
    return path


def test_everything_is_escaped(tmp_path):
    reader = read(evil_page(tmp_path))
    assert sum(tag == "script" for tag, _ in reader.tags) == 3  # two of data, one of code
    assert not [
        attributes for _, attributes in reader.tags if any(name.startswith("on") for name in attributes)
    ]
    assert json.loads(reader.scripts["examples-data"])["rows"][0][1] == EVIL
    assert EVIL in " ".join(reader.text)


def test_empty_run(tmp_path):
    report = write_page(tmp_path / "r.html", {})
    reader = read(tmp_path / "r.html")
    assert report.examples == 0
    assert "Nothing was mined." in " ".join(reader.text)


def test_strips_stop_at_the_limit_heaviest_first(tmp_path, examples):
    found = examples(60)
    strips = {e.example_id: strip() for e in found}
    bare = write_page(tmp_path / "bare.html", {}, examples=found).n_bytes
    limit = bare + 40_000
    report = write_page(tmp_path / "r.html", {}, examples=found, strips=strips, max_bytes=limit)
    assert report.n_bytes <= limit == bare + 40_000
    assert 0 < report.strips < 60 and report.strips + report.strips_left_out == 60
    kept = json.loads(read(tmp_path / "r.html").scripts["strips-data"])
    weights = {e.example_id: e.weight for e in found}
    assert min(weights[i] for i in kept) > max(weights[i] for i in strips if i not in kept)
    none = write_page(tmp_path / "n.html", {}, examples=found, strips=strips, max_bytes=1)
    assert (none.strips, none.strips_left_out) == (0, 60)


def test_notes_and_the_number_mined_are_said(tmp_path, examples):
    report = write_page(
        tmp_path / "r.html", {}, examples=examples(3), mined=9000, notes=["3 of 9000 <listed>"]
    )
    assert report.examples == 9000
    assert "3 of 9000 <listed>." in " ".join(read(tmp_path / "r.html").text)


def test_intervals_are_explained(tmp_path, summary):
    write_page(tmp_path / "with.html", summary)
    del summary["intervals"]
    write_page(tmp_path / "without.html", summary)
    said = [" ".join(read(tmp_path / name).text) for name in ("with.html", "without.html")]
    assert ["choice of held-out videos" in one for one in said] == [True, False]
    assert ["One run has no interval" in one for one in said] == [False, True]


def test_five_thousand_examples_fit(tmp_path, examples, summary):
    found = examples(5000)
    data = b"\xff\xd8\xff" + bytes(2700 - 3)  # what strip_budget grants each of 5,000
    path = tmp_path / "r.html"
    start = time.monotonic()
    report = write_page(path, summary, examples=found, strips={e.example_id: data for e in found})
    assert report.strips == 5000
    assert path.stat().st_size < 25_000_000
    assert time.monotonic() - start < 20


def test_same_input_same_bytes(tmp_path, summary, examples):
    for name in ("a", "b"):
        curve = plots.render(plots.pr_curves({"flickers": ([0, 0.5, 1], [1, 0.9, 0])}))
        write_page(tmp_path / name, summary, examples=examples(20), plots={"PR": curve})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_failure_leaves_the_old_page(tmp_path, summary):
    path = tmp_path / "r.html"
    write_page(path, summary)
    before = path.read_bytes()
    with pytest.raises(HemError, match="neither SVG, PNG nor JPEG"):
        write_page(path, summary, plots={"x": b"GIF89a"})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]


def test_escape_and_uri():
    assert escape(None) == "\u2013"
    assert escape("<a b='c' d=\"e\">&") == "&lt;a b=&#x27;c&#x27; d=&quot;e&quot;&gt;&amp;"
    uri = image_uri(b"\x89PNG\r\n\x1a\nrest")
    assert base64.b64decode(uri.split(",")[1]).endswith(b"rest") and uri.startswith("data:image/png")
    assert json.loads(re.sub("<.*?>", "", embedded_json("x", {"a": "<\u2028&>"}))) == {"a": "<\u2028&>"}


# in a real browser ---------------------------------------------------------------------------------


def pick(browser, element, value):
    browser.run(
        f"(() => {{ const e = document.getElementById('{element}'); e.value = {json.dumps(value)};"
        "e.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


def ids(browser):
    return browser.run("[...document.querySelectorAll('.card')].map((c) => c.dataset.id)")


def test_filter_sort_and_open(full, browser):
    path, found, _ = full
    browser.open(path)
    assert browser.run("document.documentElement.dataset.ready") == "yes"
    assert browser.run("document.getElementById('count').textContent").startswith(
        "150 of 200 examples; 100 of 150 right"  # ignore regions are shown on demand
    )
    right = {e.example_id: i % 3 > 0 for i, e in enumerate(found)}
    ranked = best_first([e for e in found if e.kind is not Kind.IGNORE], right)
    assert ids(browser) == [e.example_id for e in ranked[:48]]  # built on demand
    pick(browser, "direction", "up")
    assert ids(browser)[0] == ranked[-1].example_id  # the worst: wrong, and of least weight
    pick(browser, "direction", "down")

    browser.run("document.querySelector('#kinds input[value=ignore]').click()")
    pick(browser, "sort", "weight")
    heaviest = sorted(found, key=lambda e: (-e.weight, e.video_id, e.frame_index))
    assert ids(browser) == [e.example_id for e in heaviest[:48]]

    pick(browser, "direction", "up")
    assert ids(browser)[0] == heaviest[-1].example_id
    pick(browser, "sort", "score")
    lowest = min(
        (e for e in found if e.score is not None), key=lambda e: (e.score, e.video_id, e.frame_index)
    )
    assert ids(browser)[0] == lowest.example_id

    for box in ("hard_positive", "pseudo_label", "ignore"):
        browser.run(f"document.querySelector('#kinds input[value={box}]').click()")
    pick(browser, "by-class", "1")
    pick(browser, "by-video", "clip_0.mp4")
    expected = {
        e.example_id
        for e in found
        if e.kind is Kind.HARD_NEGATIVE and e.label == 1 and e.video_id == "clip_0.mp4"
    }
    assert set(ids(browser)) == expected and expected
    pick(browser, "range-field", "evidence:response")
    pick(browser, "range-low", "0.5")
    pick(browser, "range-high", "0.7273")  # 8/11 as it is shown, rounded to four digits: included
    inside = {
        e.example_id for e in found if e.example_id in expected and 0.5 <= e.evidence["response"] <= 0.7273
    }
    assert set(ids(browser)) == inside and inside != expected

    browser.run(
        "document.querySelector('#controls button[type=reset]').click();new Promise((r) => setTimeout(r, 50))"
    )
    assert len(ids(browser)) == 48
    pick(browser, "by-truth", "false")
    assert browser.run("document.getElementById('count').textContent").startswith(
        "50 of 200 examples; 0 of 50"
    )
    pick(browser, "by-truth", "")
    pick(browser, "text", found[5].example_id.upper())
    assert ids(browser) == [found[5].example_id]

    browser.run("document.querySelector('.card').click()")
    assert browser.run("document.getElementById('detail').open") is True
    detail = browser.run("document.getElementById('detail-body').textContent")
    assert found[5].example_id in detail and "ncc before0.7143" in detail and "rightwrong" not in detail
    assert browser.run("document.querySelector('#detail img').decode().then(() => true)") is True
    assert browser.run("location.hash") == "#" + found[5].example_id
    browser.run("document.getElementById('close').click()")
    assert browser.run("document.getElementById('detail').open") is False


def test_more_are_built_on_demand(full, browser):
    browser.open(full[0])
    browser.run("document.getElementById('more').click()")
    assert len(ids(browser)) >= 96
    assert len(set(ids(browser))) == len(ids(browser))


def test_link_opens_an_example(full, browser):
    path, found, _ = full
    browser.open(path, "#" + found[150].example_id)
    assert browser.run("document.getElementById('detail').open") is True
    before = browser.run("document.getElementById('detail-body').textContent")
    browser.run("document.getElementById('next').click()")
    assert browser.run("document.getElementById('detail-body').textContent") != before


def test_printed_it_shows_figures_and_no_controls(full, browser):
    browser.open(full[0])
    browser.call("Emulation.setEmulatedMedia", media="print")
    try:
        shown = "(id) => getComputedStyle(document.getElementById(id)).display"
        assert [browser.run(f"({shown})('{one}')") for one in ("controls", "more")] == ["none", "none"]
        assert browser.run(f"({shown})('grid')") == "grid"
        colour = browser.run("getComputedStyle(document.body).color")
        assert colour == "rgb(0, 0, 0)"
        printed = browser.call("Page.printToPDF", printBackground=True)["data"]
        assert base64.b64decode(printed).startswith(b"%PDF")
    finally:
        browser.call("Emulation.setEmulatedMedia", media="")


def test_no_request_no_error_and_no_foreign_script(tmp_path, full, browser):
    for path in (full[0], evil_page(tmp_path)):
        browser.open(path)
        assert browser.run("document.documentElement.dataset.ready") == "yes"
        browser.run("document.querySelector('.card').click()")
        assert browser.run("window.hit") is None
        asked = [
            e["params"]["request"]["url"]
            for e in browser.events
            if e.get("method") == "Network.requestWillBeSent"
        ]
        assert {url.split(":")[0] for url in asked} <= {"file", "data", "about"}
        assert not [
            e for e in browser.events if e.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded")
        ]
    assert EVIL in browser.run(
        "document.getElementById('detail-body').textContent + document.body.textContent"
    )
    browser.run(
        "const s = document.createElement('script'); s.textContent = 'window.hit = 3';document.body.append(s)"
    )
    assert browser.run("window.hit") is None  # the policy stops what escaping might miss


def test_opens_fast_with_five_thousand(tmp_path, examples, summary, browser):
    found = examples(5000)
    data = strip(40)
    data += bytes(max(0, 2700 - len(data)))
    path = tmp_path / "r.html"
    write_page(path, summary, examples=found, strips={e.example_id: data for e in found})
    start = time.monotonic()
    browser.open(path)
    assert browser.run("document.documentElement.dataset.ready") == "yes"
    opened = time.monotonic() - start
    browser.run("window.t = performance.now()")
    pick(browser, "by-video", "clip_3.mp4")
    filtered = browser.run("performance.now() - window.t")
    print(f"opened in {opened:.2f} s, filtered in {filtered:.0f} ms")
    assert browser.run("document.getElementById('count').textContent").startswith("750 of 5000")
    # twice the aims (2 s, at once): the machine that runs the tests may be busy with other things
    assert opened < 4
    assert filtered < 500
