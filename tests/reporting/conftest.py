"""A made-up run, and a headless browser driven through its debugging pipe."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hem.structures import HardExample, Kind

KINDS = list(Kind)


def make_examples(count: int, videos: int = 5) -> list[HardExample]:
    """Examples whose figures follow from their number alone."""
    return [
        HardExample(
            f"clip_{i % videos}.mp4",
            "d",
            i,
            i / 10,
            (i % 50, 5, i % 50 + 20, 30),
            1 + i % 2,
            KINDS[i % 4],
            None if i % 10 == 9 else (i % 100) / 100,
            (i * 37 % 1000) / 1000,
            ("temporal", "elicited")[i % 2],
            1,
            {"ncc_before": i % 7 / 7, "response": i % 11 / 11, "track_id": float(i % 13)},
        )
        for i in range(count)
    ]


@pytest.fixture
def examples() -> Callable[..., list[HardExample]]:
    return make_examples


@pytest.fixture
def summary() -> dict[str, Any]:
    def arm(ap: float, alarms: float | None, recall: float) -> dict[str, float | None]:
        return {
            "AP": ap,
            "AP50": ap + 0.3,
            "video_AP50": ap + 0.1,
            "recall": recall,
            "false_alarms_per_minute": alarms,
            "false_alarms_per_frame": None if alarms is None else alarms / 600,
            "flickers_per_minute": 12.25,
        }

    return {
        "arms": {
            "flickers": arm(0.52, 20.0, 0.8),
            "continued": arm(0.5, 35.5, 0.75),
            "flickers_and_gaps": arm(0.49, None, 0.85),
            "baseline": arm(0.48, 40.0, 0.7),
        },
        "intervals": {"flickers": {"false_alarms_per_minute": [-20.0, -11.0], "AP": [-0.01, 0.05]}},
        "mining": {
            "frames": 900,
            "hard_negatives": 61,
            "hard_positives": 20,
            "purity_hard_negatives": 0.885,
            "purity_hard_positives": None,
            "false_share_of_detections": 0.25,
            "seconds": 31.5,
            "frames_per_second": 28.6,
        },
        "seconds": {"baseline": 80.0, "flickers": 21.5},
        "seed": 3,
    }


class Browser:
    """Just enough of the debugging protocol: open a page, run an expression, take a picture."""

    def __init__(self, executable: str, profile: Path) -> None:
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        arguments = [
            executable, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--remote-debugging-pipe", "--no-first-run", "--disable-background-networking",
            f"--user-data-dir={profile}", "about:blank",
        ]  # fmt: skip

        def wire() -> None:  # the browser reads commands from 3 and answers on 4
            os.dup2(to_browser, 63)
            os.dup2(from_browser, 64)
            os.dup2(63, 3)
            os.dup2(64, 4)

        self._process = subprocess.Popen(
            arguments, preexec_fn=wire, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(to_browser)
        os.close(from_browser)
        self._count, self._rest, self._session = 0, b"", None
        self.events: list[dict[str, Any]] = []
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(one["targetId"] for one in targets if one["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            data = os.read(self._in, 1 << 20)
            if not data:
                raise RuntimeError("the browser ended")
            self._rest += data
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def open(self, path: Path, fragment: str = "") -> None:
        self._go("about:blank")  # a change of the fragment alone would not load the page again
        self.events.clear()
        self._go(path.as_uri() + fragment)

    def _go(self, address: str) -> None:
        self.call("Page.navigate", url=address)
        there = f"location.href.split('#')[0] === {json.dumps(address.split('#')[0])}"
        end = time.monotonic() + 60
        while not self.run(f"{there} && document.readyState === 'complete'"):
            assert time.monotonic() < end, f"{address} was not loaded in a minute"
            time.sleep(0.01)

    def run(self, expression: str) -> Any:
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in done:
            raise AssertionError(done["exceptionDetails"])
        return done["result"].get("value")

    def close(self) -> None:
        os.close(self._out)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    executable = next((found for name in names if (found := shutil.which(name))), None)
    if executable is None:
        pytest.skip("needs a Chromium browser (chromium or google-chrome on the PATH)")
    one = Browser(executable, tmp_path_factory.mktemp("profile"))
    yield one
    one.close()
