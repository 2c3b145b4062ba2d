"""The review page: who may ask, what is kept, and how it looks to a person at the keys."""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hem.artifacts import save_examples, write_json
from hem.artifacts.rulings import VERDICTS, VerdictLog
from hem.errors import HemError
from hem.ops.rulings import honour
from hem.reporting.review_export import export_sample
from hem.reporting.review_pictures import Pictures
from hem.reporting.review_server import MOST_BYTES, ReviewServer
from hem.reporting.review_session import HELD_S, Session, verdict_of
from hem.reporting.review_source import read_reviewable
from hem.reviewing.formats import read_answers
from hem.structures import Answer, HardExample, Kind, Rulings, VideoInfo
from hem.video.manifest import scan_videos
from hem.video.writer import write_video

EVIL = "</script><img src=x onerror=window.hit=1>"
FRAMES = 12


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> VideoInfo:
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    picture = np.zeros((64, 96, 3), dtype=np.uint8)
    write_video(path, (np.roll(picture + 7 * k, k, 0) for k in range(FRAMES)), 10.0)
    return scan_videos(str(path)).videos[0]


def mined(video: VideoInfo) -> list[HardExample]:
    kinds = (Kind.HARD_NEGATIVE, Kind.PSEUDO_LABEL, Kind.IGNORE)
    return [
        HardExample(
            video.video_id, video.digest, k % FRAMES, k / 10, (2 + k, 5, 30 + k, 40), 1, kinds[k % 3],
            0.5 + k / 100, 0.5, EVIL if k % 3 else "hem", 1, {EVIL: 0.5, "response": float("nan")},
        )
        for k in range(24)
    ]  # fmt: skip


@pytest.fixture
def run(tmp_path: Path, video: VideoInfo) -> Path:
    save_examples(tmp_path / "hard_examples.parquet", mined(video), class_names=[EVIL])
    write_json(tmp_path / "measured.json", "measured", {"videos": [vars(video)], "evidence": None})
    write_json(tmp_path / "summary.json", "summary", {"operating_point": None})
    return tmp_path


@pytest.fixture
def server(run: Path) -> Iterator[ReviewServer]:
    source = read_reviewable(run)
    one = ReviewServer(
        Session(source, who="me"), Pictures(source, run / "review" / "pictures"), port=0, title=EVIL
    )
    thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield one
    one.shutdown()
    one.server_close()
    thread.join()


class Client:
    """A browser tab without the browser."""

    def __init__(self, server: ReviewServer, tab: str = "a" * 10) -> None:
        self.server, self.tab = server, tab
        self.host = f"127.0.0.1:{server.server_port}"
        self.good = {
            "Host": self.host,
            "Cookie": f"{server.cookie}={server.token}",
            "Origin": f"http://{self.host}",
            "X-Hem-Token": server.token,
            "Content-Type": "application/json",
        }

    def ask(self, method: str, path: str, body: object = None, **headers: str | None):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=20)
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        sent = {**self.good, **{name.replace("_", "-"): value for name, value in headers.items()}}
        connection.request(
            method, path, data, {name: value for name, value in sent.items() if value is not None}
        )
        answer = connection.getresponse()
        found = answer.status, answer.read(), dict(answer.getheaders())
        connection.close()
        return found

    def next(self) -> dict:
        return json.loads(self.ask("GET", f"/api/next?tab={self.tab}")[1])

    def answer(self, example_id: str, answer: str) -> dict:
        status, data, _ = self.ask(
            "POST", "/api/answer", {"id": example_id, "answer": answer, "tab": self.tab}
        )
        assert status == 200, data
        return json.loads(data)


def test_a_whole_review(server, run):
    client = Client(server)
    found = client.next()
    assert found["progress"]["mined"] == 16  # ignore regions are not judged
    seen = []
    while found["example"] is not None:
        seen.append(found["example"]["id"])
        assert client.next()["example"]["id"] == seen[-1]  # asking again gives the same
        found = client.answer(seen[-1], "wrong" if len(seen) % 4 == 0 else "right")
    assert len(seen) == len(set(seen)) == 16
    assert found["progress"]["enough"] is True
    groups = {(g["kind"], g["rule"]): g for g in found["progress"]["groups"]}
    assert sum(g["wrong"] for g in groups.values()) == 4
    assert all(g["low"] == g["purity"] == g["high"] for g in groups.values())  # everything was looked at
    standing = VerdictLog(run / VERDICTS).standing
    assert set(standing) == set(seen) and {v.who for v in standing.values()} == {"me"}


def test_undo_and_a_lost_reply(server):
    client = Client(server)
    first = client.next()["example"]["id"]
    second = client.answer(first, "right")["example"]["id"]
    again = client.answer(first, "right")  # the reply was lost and the page sends it again
    assert again["example"]["id"] == second and again["progress"]["answered"] == 1
    undone = json.loads(client.ask("POST", "/api/undo", {"tab": client.tab})[1])
    assert undone["undone"] == undone["example"]["id"] == first
    assert undone["progress"]["answered"] == 0
    assert json.loads(client.ask("POST", "/api/undo", {"tab": client.tab})[1])["undone"] is None


def test_two_tabs_share_the_work_and_lose_nothing(server, run):
    clients = [Client(server, letter * 8) for letter in "ab"]
    seen: list[list[str]] = [[], []]

    def work(number: int) -> None:
        found = clients[number].next()
        while found["example"] is not None:
            seen[number].append(found["example"]["id"])
            found = clients[number].answer(seen[number][-1], "right")

    threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not set(seen[0]) & set(seen[1])
    assert len(seen[0]) + len(seen[1]) == 16 == len(VerdictLog(run / VERDICTS).standing)
    assert json.loads(clients[0].ask("POST", "/api/undo", {"tab": "a" * 8})[1])["undone"] == seen[0][-1]


def test_an_example_is_free_again_after_a_while(run):
    now = [0.0]
    session = Session(read_reviewable(run), clock=lambda: now[0])
    first = session.next("a")
    assert session.next("b") != first
    now[0] = HELD_S - 1
    assert session.next("c") not in (first, session.next("b"))
    now[0] = HELD_S
    assert session.next("d") == first  # tab a went away; b asked again since


GUARDS = [
    ({"Host": "evil.example:80"}, "GET", "/", 421),
    ({"Host": "localhost.evil.example"}, "POST", "/api/answer", 421),
    ({"Cookie": None}, "GET", "/", 403),
    ({"Cookie": None}, "GET", "/api/progress", 403),
    ({"Cookie": "hem_review_0=x"}, "GET", "/review.js", 403),
    ({"Cookie": None}, "POST", "/api/answer", 403),
    ({"Origin": "http://evil.example"}, "POST", "/api/answer", 403),
    ({"Origin": None}, "POST", "/api/answer", 403),
    ({"Origin": "null"}, "POST", "/api/undo", 403),
    ({"X_Hem_Token": None}, "POST", "/api/answer", 403),
    ({"X_Hem_Token": "é"}, "POST", "/api/answer", 403),
    ({"Content_Type": "text/plain"}, "POST", "/api/answer", 415),
    ({"Content_Type": "application/x-www-form-urlencoded"}, "POST", "/api/answer", 415),
]


@pytest.mark.parametrize(("headers", "method", "path", "status"), GUARDS)
def test_who_may_ask(server, run, headers, method, path, status):
    client = Client(server)
    example_id = next(iter(server.session.sample.strata))
    body = {"id": example_id, "answer": "wrong", "tab": client.tab} if method == "POST" else None
    encoded = {k: v.encode("latin-1").decode("latin-1") if v else v for k, v in headers.items()}
    assert client.ask(method, path, body, **encoded)[0] == status
    assert not (run / VERDICTS).exists()


@pytest.mark.parametrize(
    "path",
    [
        "/picture/strip/../../etc/passwd", "/picture/strip/0123456789abcdef",
        "/picture/other/0123456789abcdef",
        "/../review.css", "/review.css/..", "/assets/review.css", "//etc/passwd", "/api/answer", "/%2e%2e/x",
    ],
)  # fmt: skip
def test_paths_lead_nowhere_else(server, path):
    assert Client(server).ask("GET", path)[0] == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"nonsense", 400), (b"[]", 400), (b"[" * 5000, 400), (b"x" * (MOST_BYTES + 1), 413),
        ({"id": 3, "answer": "right", "tab": "a" * 8}, 400),
        ({"id": "x", "answer": "maybe", "tab": "a" * 8}, 400),
        ({"id": "x", "answer": "right", "tab": "../etc"}, 400),
        ({"id": "x", "answer": "right", "tab": "a" * 8}, 409),
        ({"id": "x", "answer": ["right"], "tab": "a" * 8}, 400),
    ],
)  # fmt: skip
def test_wrong_answers_change_nothing(server, run, body, status):
    assert Client(server).ask("POST", "/api/answer", body)[0] == status
    assert not (run / VERDICTS).exists()
    assert Client(server).ask("POST", "/api/nothing", {})[0] == 404


def test_the_token_opens_the_page_once_and_leaves_the_address(server):
    client = Client(server)
    status, _, headers = client.ask("GET", f"/?token={server.token}", Cookie=None)
    assert (status, headers["Location"]) == (303, "/")
    assert "HttpOnly" in headers["Set-Cookie"] and "SameSite=Lax" in headers["Set-Cookie"]
    assert client.ask("GET", "/?token=wrong", Cookie=None)[0] == 403
    status, page, headers = client.ask("GET", "/")
    assert status == 200 and b"<img src=x" not in page and b"&lt;img src=x" in page
    assert "script-src 'self'" in headers["Content-Security-Policy"]
    assert server.address.endswith(server.token)


def test_pictures_are_made_once(server, run):
    example_id = server.session.next("tabtabtab")
    client = Client(server)
    status, data, headers = client.ask("GET", f"/picture/strip/{example_id}")
    assert status == 200 and data.startswith(b"\xff\xd8\xff") and headers["Content-Type"] == "image/jpeg"
    assert client.ask("GET", f"/picture/place/{example_id}")[1].startswith(b"\xff\xd8\xff")
    path = run / "review" / "pictures" / f"{example_id}.strip.jpg"
    before = path.stat().st_mtime_ns
    assert client.ask("GET", f"/picture/strip/{example_id}")[1] == data
    assert path.stat().st_mtime_ns == before


def test_a_video_that_is_gone_is_said(server, video, tmp_path):
    lost = VideoInfo(video.video_id, video.digest, str(tmp_path / "gone.mp4"), 96, 64)
    server.pictures._source.videos[video.video_id] = lost  # type: ignore[index]
    status, data, _ = Client(server).ask("GET", f"/picture/strip/{server.session.next('tabtabtab')}")
    assert status == 409 and data


def test_a_taken_port_and_an_empty_run_are_said(server, run, tmp_path):
    with pytest.raises(HemError, match="choose another port"):
        ReviewServer(server.session, server.pictures, port=server.server_port)
    with pytest.raises(HemError, match=r"no hard_examples\.parquet"):
        read_reviewable(tmp_path / "none")
    save_examples(run / "hard_examples.parquet", [], class_names=["cat"])
    with pytest.raises(HemError, match="nothing that can be judged"):
        Session(read_reviewable(run))


def test_a_review_goes_on_after_its_verdicts_were_honoured(run, video):
    session = Session(read_reviewable(run))
    ids = list(session.sample.upcoming(()))
    session.answer(ids[0], Answer.WRONG, "t")
    session.answer(ids[1], Answer.RIGHT, "t")
    before = session.progress()
    rulings = Rulings(tuple(session.log.standing.values()))
    save_examples(run / "hard_examples.parquet", honour(mined(video), rulings), class_names=["cat"])
    after = Session(read_reviewable(run)).progress()
    assert after == before


@pytest.mark.parametrize("form", ["coco", "label_studio", "fiftyone"])
def test_export_and_import(run, tmp_path, form):
    session = Session(read_reviewable(run))
    examples = [session.sample.examples[one] for one in list(session.sample.upcoming(()))[:6]]
    answers = {examples[0].example_id: Answer.WRONG, examples[1].example_id: Answer.RIGHT}
    files = export_sample(tmp_path / "out", form, session.source, examples, answers)
    assert all((tmp_path / "out" / file).is_file() for file in files)
    assert len(list((tmp_path / "out").glob("*/*.jpg"))) == len({e.frame_index for e in examples})
    back = read_answers(tmp_path / "out" / files[0], form)
    assert back == answers
    session.log.add([verdict_of(session.sample.examples[one], a, "x", form) for one, a in back.items()])
    assert session.progress()["answered"] == 2
    with pytest.raises(HemError, match="exists already"):
        export_sample(tmp_path / "out", form, session.source, examples, answers)


# in a real browser ---------------------------------------------------------------------------------


def press(browser, key):
    before = browser.run("document.documentElement.dataset.shown")
    browser.run(
        f"document.dispatchEvent(new KeyboardEvent('keydown', {{key: {json.dumps(key)}, bubbles: true}}))"
    )
    end = time.monotonic() + 20
    while browser.run("document.documentElement.dataset.shown") == before:
        assert time.monotonic() < end, browser.run("document.body.innerText")
        time.sleep(0.02)


def opened(browser, server):
    browser.events.clear()
    browser.call("Page.navigate", url=server.address)
    end = time.monotonic() + 60
    done = "document.documentElement?.dataset.ready === 'yes' && location.search === ''"
    while not browser.run(done):
        assert time.monotonic() < end
        time.sleep(0.02)


def counts(browser):
    return browser.run(
        "[...document.querySelectorAll('#purity tr')].reduce((sum, row) => sum.map((v, k) => v + "
        "(row.className ? 0 : Number(row.children[3 + k].textContent))), [0, 0, 0])"
    )


def test_keys_counts_and_undo(server, run, browser):
    opened(browser, server)
    first = browser.run("document.documentElement.dataset.shown")
    assert first == server.session.next(browser.run("sessionStorage.getItem('tab')"))
    for key in ("r", "W", "u", "r"):
        press(browser, key)
    assert counts(browser) == [2, 1, 1]
    assert browser.run("document.getElementById('state').textContent").startswith("4 of 16 answered; about")
    press(browser, "z")
    assert counts(browser) == [1, 1, 1]
    last = browser.run("document.documentElement.dataset.shown")
    browser.run("document.getElementById('wrong').click()")
    while browser.run("document.documentElement.dataset.shown") == last:
        time.sleep(0.02)
    assert counts(browser) == [1, 2, 1]
    assert VerdictLog(run / VERDICTS).standing[first].answer is Answer.RIGHT
    assert browser.run("document.querySelector('#strip').decode().then(() => true)") is True
    assert browser.run("document.querySelector('#place').decode().then(() => true)") is True
    assert EVIL in browser.run("document.getElementById('claim').textContent")
    assert EVIL in browser.run("document.getElementById('facts').textContent")
    assert browser.run("window.hit") is None
    assert browser.run("document.title") == EVIL
    errors = [e for e in browser.events if e.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded")]
    assert errors == []
    asked = {
        e["params"]["request"]["url"]
        for e in browser.events
        if e.get("method") == "Network.requestWillBeSent"
    }
    assert all(url.startswith((f"http://127.0.0.1:{server.server_port}/", "data:")) for url in asked)
    for _ in range(12):
        press(browser, "r")
    assert browser.run("document.getElementById('done').hidden") is False
    assert "you may stop" in browser.run("document.getElementById('state').textContent")
