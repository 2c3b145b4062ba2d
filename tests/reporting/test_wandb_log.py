import io
import json
import logging
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from hem.errors import HemError
from hem.reporting import wandb_log
from hem.reporting.wandb_log import WandbLog, _Worker, open_wandb

FAKE_KEY = "a" * 40


def jpeg():
    buffer = io.BytesIO()
    Image.new("RGB", (16, 12), (200, 30, 30)).save(buffer, "JPEG")
    return buffer.getvalue()


class FakeRun:
    def __init__(self, error=None):
        self.calls, self.error = [], error
        self.summary = self

    def log(self, values, step=None):
        if self.error:
            raise self.error
        self.calls.append((values, step))

    def update(self, values):
        self.calls.append(("summary", values))

    def finish(self):
        self.calls.append("finish")


SCRIPT = """
import json, logging, sys, time
from pathlib import Path
logging.basicConfig(level=logging.WARNING, format="WARNED %(message)s")
from hem.reporting.wandb_log import open_wandb
start = time.monotonic()
log = open_wandb(sys.argv[1], Path(sys.argv[2]), group="g", name="n", config={"a": 1})
opened = time.monotonic() - start
log.log({"loss": 0.5, "missing": None, "bad": float("nan")}, step=1)
log.picture("mined", Path(sys.argv[3]).read_bytes(), "a flicker")
log.comparison(json.loads(Path(sys.argv[4]).read_text()))
log.finish()
print(json.dumps({"mode": log.mode, "opened": opened}))
"""


def run_script(mode, tmp_path, summary, **environment):
    """Run in a process of its own: wandb keeps global state, and reports on itself as a process ends."""
    (tmp_path / "p.jpg").write_bytes(jpeg())
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    root = Path(wandb_log.__file__).parents[2]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    empty = str(tmp_path / "home")
    kept |= {"HOME": empty, "NETRC": f"{empty}/netrc", "PYTHONPATH": str(root), "NO_PROXY": "127.0.0.1"}
    names = ("p.jpg", "summary.json")
    arguments = [mode, str(tmp_path / "out"), *(str(tmp_path / name) for name in names)]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        env=kept | environment, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_offline_keeps_pictures_and_asks_nobody(tmp_path, summary):
    asked = []

    class Listener(BaseHTTPRequestHandler):
        def handle(self):
            asked.append(self.client_address)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        result, errors = run_script(
            "offline", tmp_path, summary, WANDB_BASE_URL=address, WANDB_API_KEY=FAKE_KEY
        )
    finally:
        server.shutdown()
    assert result["mode"] == "offline"
    assert "WARNED" not in errors
    assert asked == []
    (run,) = (tmp_path / "out/wandb").glob("offline-run-*")
    assert list(run.glob("run-*.wandb"))
    (picture,) = (run / "files/media/images").glob("mined*")
    assert Image.open(picture).size == (16, 12)
    (table,) = (run / "files/media/table").glob("arms*")
    columns = json.loads(table.read_text())["columns"]
    assert columns[:4] == ["arm", "role", "AP", "AP minus control"]


def test_online_without_network_goes_offline_with_one_warning(tmp_path, summary):
    result, errors = run_script(
        "online", tmp_path, summary, WANDB_BASE_URL="http://127.0.0.1:9", WANDB_API_KEY=FAKE_KEY
    )
    assert result["mode"] == "offline"
    assert errors.count("WARNED") == 1
    assert "recorded offline" in errors and "wandb sync" in errors
    # a refused connection takes no time; the rest is what starting offline takes on a busy machine
    assert result["opened"] < 40
    assert list((tmp_path / "out/wandb").glob("offline-run-*/files/media/images/*"))


def offline_at_once(monkeypatch, during_online=None):
    """Stand in for wandb itself: offline starts at once, online does what the test says."""

    def init(about, mode, timeout_s):
        if mode == "online" and during_online is not None:
            during_online()
        return FakeRun()

    monkeypatch.setattr(wandb_log, "_init", init)


def test_server_that_never_answers_costs_the_limit_and_no_more(tmp_path, monkeypatch, caplog):
    import socket

    offline_at_once(monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, says nothing
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        start = time.monotonic()
        log = open_wandb("online", tmp_path, connect_timeout_s=0.6)
        seconds = time.monotonic() - start
    assert log.mode == "offline"
    assert 0.5 <= seconds < 2.5
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "during_online", [lambda: time.sleep(5), lambda: (_ for _ in ()).throw(ValueError("bad key\nlong page"))]
)
def test_online_start_that_hangs_or_fails_goes_offline(tmp_path, monkeypatch, caplog, during_online):
    monkeypatch.setattr(wandb_log, "_sign_of_life", lambda timeout_s: None)
    offline_at_once(monkeypatch, during_online)
    start = time.monotonic()
    log = open_wandb("online", tmp_path, connect_timeout_s=0.6)
    assert log.mode == "offline" and log.active
    assert time.monotonic() - start < 2.5
    assert len(caplog.records) == 1
    assert "\n" not in caplog.records[0].getMessage()


def test_online_when_all_is_well(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(wandb_log, "_sign_of_life", lambda timeout_s: None)
    offline_at_once(monkeypatch)
    log = open_wandb("online", tmp_path)
    assert (log.mode, log.active, caplog.records) == ("online", True, [])


def test_nothing_starts(tmp_path, monkeypatch, caplog):
    def never(*args):
        raise OSError("disk full")

    monkeypatch.setattr(wandb_log, "_init", never)
    log = open_wandb("offline", tmp_path)
    assert (log.mode, log.active) == ("disabled", False)
    assert [r.getMessage() for r in caplog.records] == [
        "W&B could not start (disk full); nothing is recorded there"
    ]
    log.log({"a": 1})
    log.finish()


def test_disabled_touches_nothing(tmp_path, summary):
    directory = tmp_path / "absent"
    log = open_wandb("disabled", directory)
    log.log({"a": 1.0})
    assert log.picture("p", b"") is False
    log.comparison(summary)
    log.artifact(tmp_path, "x", "y")
    log.finish()
    assert not directory.exists()
    code = (
        "import sys; from pathlib import Path; from hem.reporting.wandb_log import open_wandb;"
        "open_wandb('disabled', Path('/nonexistent')).finish(); sys.exit('wandb' in sys.modules)"
    )
    root = Path(wandb_log.__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, timeout=60).returncode == 0


def test_values_are_cleaned_and_calls_keep_their_order():
    run, worker = FakeRun(), _Worker()
    log = WandbLog("offline", run, worker, 5)
    log.log({"a": 1.0, "b": None, "c": float("inf")}, step=3)
    log.log({"b": None})
    log.summary({"best": 0.5, "none": None})
    log.finish()
    assert run.calls == [({"a": 1.0}, 3), ("summary", {"best": 0.5}), "finish"]


def test_failure_is_warned_once_then_silent(caplog):
    log = WandbLog("offline", FakeRun(RuntimeError("service gone")), _Worker(), 5)
    for value in range(4):
        log.log({"a": value})
    log.finish()
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1
    assert "RuntimeError: service gone" in messages[0]
    assert not log.active


def test_call_that_hangs_does_not_slow_the_run(caplog):
    class Hanging(FakeRun):
        def log(self, values, step=None):
            time.sleep(3)

    log = WandbLog("offline", Hanging(), _Worker(), 5)
    start = time.monotonic()
    for value in range(100):
        log.log({"a": value})
    assert time.monotonic() - start < 0.5
    log.finish(timeout_s=0.2)
    assert time.monotonic() - start < 1.5
    assert "did not end within 0.2 s" in caplog.text


def test_queue_is_bounded(monkeypatch, caplog):
    monkeypatch.setattr(wandb_log, "_WAITING", 3)
    gate = threading.Event()
    worker = _Worker()
    for _ in range(9):
        worker.put(gate.wait)
    gate.set()
    assert worker.failed
    assert len(caplog.records) == 1 and "3 calls behind" in caplog.text


def test_pictures_are_bounded():
    run = FakeRun()
    log = WandbLog("offline", run, _Worker(), 2)
    assert [log.picture("p", jpeg()) for _ in range(4)] == [True, True, False, False]


def test_refusals(tmp_path):
    with pytest.raises(HemError, match="onlin"):
        open_wandb("onlin", tmp_path)
    with pytest.raises(HemError, match="connect_timeout_s"):
        open_wandb("online", tmp_path, connect_timeout_s=0)


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.WARNING, logger="hem")
