"""Weights & Biases as a guest: it may watch a run, never stop it, slow it or end it."""

import contextlib
import inspect
import logging
import math
import os
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from hem.errors import HemError
from hem.reporting.tables import METRICS, comparison_rows

Mode = Literal["online", "offline", "disabled"]
T = TypeVar("T")
_log = logging.getLogger(__name__)
_WAITING = 2000  # calls that may wait; a service that hangs must not fill the memory
_OFFLINE_S = 60.0  # starting an offline run needs no network, only a slow disk or processor can delay it


class WandbLog:
    """An open run, or one that does nothing. Made by ``open_wandb``.

    Every call returns at once: the work is done in order by one thread, and the first failure is
    warned about, after which nothing more is tried.

    Attributes:
        mode: what it came to: ``online``, ``offline`` or ``disabled``.
    """

    def __init__(self, mode: Mode, run: object, worker: "_Worker | None", max_pictures: int) -> None:
        self.mode = mode
        self._run: Any = run  # wandb publishes no types
        self._worker, self._pictures_left = worker, max_pictures

    @property
    def active(self) -> bool:
        """Whether anything is still being recorded."""
        return self._worker is not None and not self._worker.failed

    def _do(self, call: Callable[[], object]) -> None:
        if self.active and self._worker is not None:
            self._worker.put(call)

    def log(self, values: Mapping[str, float | int | None], step: int | None = None) -> None:
        """Record figures by name; what was not measured (None) or is not finite is left out."""
        kept = {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
        if kept:
            self._do(lambda: self._run.log(kept, step=step))

    def picture(self, name: str, data: bytes, caption: str = "", step: int | None = None) -> bool:
        """Record a PNG or JPEG; False if the run's bound on pictures is reached or nothing is recorded."""
        return self.pictures(name, {caption: data}, step) == 1

    def pictures(self, name: str, by_caption: Mapping[str, bytes], step: int | None = None) -> int:
        """Record PNGs or JPEGs beside each other; return how many the run's bound left room for."""
        if not self.active or self._pictures_left <= 0:
            return 0
        taken = dict(list(by_caption.items())[: self._pictures_left])
        self._pictures_left -= len(taken)

        def call() -> None:
            import io

            import wandb
            from PIL import Image

            shown = []
            for caption, data in taken.items():
                with Image.open(io.BytesIO(data)) as image:
                    shown.append(wandb.Image(image.convert("RGB"), caption=caption))
            self._run.log({name: shown if len(shown) > 1 else shown[0]}, step=step)

        if taken:
            self._do(call)
        return len(taken)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Record a table."""

        def call() -> None:
            import wandb

            self._run.log({name: wandb.Table(columns=list(columns), data=[list(row) for row in rows])})

        self._do(call)

    def comparison(self, summary: Mapping[str, Any]) -> None:
        """Record the arms of ``summary.json`` as a table and as the run's summary figures."""
        columns = ["arm", "role"]
        for metric in METRICS:
            columns += [metric.key, f"{metric.key} minus control"]
        data: list[list[object]] = []
        figures: dict[str, float] = {}
        for row in comparison_rows(summary):
            cells: list[object] = []
            for metric, cell in zip(METRICS, row.cells, strict=True):
                cells += [cell.value, cell.difference]
                if cell.value is not None:
                    figures[f"{row.arm}/{metric.key}"] = cell.value
            data.append([row.arm, row.role, *cells])
        self.table("arms", columns, data)
        self.summary(figures)

    def summary(self, values: Mapping[str, float | int | str | None]) -> None:
        """Set figures that stand for the whole run."""
        kept = {name: value for name, value in values.items() if value is not None}
        self._do(lambda: self._run.summary.update(kept))

    def artifact(self, path: Path, name: str, kind: str) -> None:
        """Record a file or directory (a checkpoint, a replay round) as an artifact."""

        def call() -> None:
            import wandb

            artifact = wandb.Artifact(name, type=kind)
            if path.is_dir():
                artifact.add_dir(str(path))
            else:
                artifact.add_file(str(path))
            self._run.log_artifact(artifact)

        self._do(call)

    def finish(self, timeout_s: float = 30.0) -> None:
        """End the run, waiting at most ``timeout_s`` for what is still to be written or sent."""
        if self._worker is None:
            return
        if not self._worker.failed:
            self._worker.put(lambda: self._run.finish())
        if not self._worker.close(timeout_s):
            self._worker.warn(f"did not end within {timeout_s:g} s; it is left behind")
        self._worker = None


def _first_line(error: Exception) -> str:
    """A server's answer may be a whole web page; one line of it is enough for a warning."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


class _Worker:
    """One daemon thread that makes calls in order, so that a call that hangs hangs nobody else."""

    def __init__(self) -> None:
        self.failed = False
        self._warned = False
        self._calls: queue.Queue[Callable[[], object] | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._work, name="wandb", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            if self.failed:
                continue
            try:
                call()
            except Exception as error:  # a guest's failure, of whatever kind, is not the run's
                self.warn(
                    f"failed ({type(error).__name__}: {_first_line(error)}); nothing more is sent to it"
                )

    def put(self, call: Callable[[], object]) -> None:
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            self.warn(f"fell {_WAITING} calls behind; nothing more is sent to it")

    def warn(self, what: str) -> None:
        self.failed = True
        if not self._warned:
            self._warned = True
            _log.warning("W&B %s", what)

    def wait_for(self, call: Callable[[], T], timeout_s: float) -> T:
        """Make a call on the thread and return its result; raise its error, or TimeoutError."""
        done = threading.Event()
        result: list[T] = []
        errors: list[Exception] = []

        def keep() -> None:
            try:
                result.append(call())
            except Exception as error:  # handed to the caller
                errors.append(error)
            done.set()

        self.put(keep)
        if not done.wait(timeout_s):
            raise TimeoutError(f"no answer within {timeout_s:.0f} s")
        if errors:
            raise errors[0]
        return result[0]

    def close(self, timeout_s: float) -> bool:
        with contextlib.suppress(queue.Full):
            self._calls.put_nowait(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()


def open_wandb(
    mode: Mode,
    directory: Path,
    *,
    project: str = "hem",
    group: str | None = None,
    name: str | None = None,
    config: Mapping[str, Any] | None = None,
    tags: Sequence[str] = (),
    connect_timeout_s: float = 10.0,
    max_pictures: int = 200,
) -> WandbLog:
    """Open a run; the network is touched in mode ``online`` alone.

    Online, the server is asked for a sign of life and then for a run, both within
    ``connect_timeout_s``; if that fails the run is recorded offline, with one warning that says so
    and how to send it later. If even that fails, nothing is recorded, with one warning.

    Args:
        mode: ``online``, ``offline`` (files only, pictures included, for ``wandb sync``) or
            ``disabled`` (wandb is not even imported).
        directory: where its files go, under ``wandb/``.
        project: W&B project.
        group: arms and seeds of one experiment share it.
        name: of the run.
        config: JSON-like values.
        tags: labels of the run.
        connect_timeout_s: hard limit for going online, > 0.
        max_pictures: how many pictures a run may hold.

    Raises:
        HemError: on an unknown mode or a limit that is not above 0.
    """
    if mode not in ("online", "offline", "disabled"):
        raise HemError(f"logger mode must be online, offline or disabled, got {mode!r}")
    if connect_timeout_s <= 0:
        raise HemError(f"connect_timeout_s must be > 0, got {connect_timeout_s}")
    if mode == "disabled":
        return WandbLog("disabled", None, None, 0)
    directory.mkdir(parents=True, exist_ok=True)
    about = {
        "project": project,
        "group": group,
        "name": name,
        "tags": list(tags),
        "config": dict(config or {}),
        "dir": str(directory),
    }
    warned = False
    if mode == "online":
        try:
            worker, run = _online(about, connect_timeout_s)
            return WandbLog("online", run, worker, max_pictures)
        except Exception as error:  # any reason at all ends in the same place: offline
            _log.warning(
                "W&B cannot be reached (%s); this run is recorded offline under %s, "
                "send it later with `wandb sync`",
                _first_line(error),
                directory / "wandb",
            )
            warned = True
    try:
        worker = _Worker()
        run = worker.wait_for(lambda: _init(about, "offline", _OFFLINE_S), _OFFLINE_S)
    except Exception as error:  # see above
        if not warned:
            _log.warning("W&B could not start (%s); nothing is recorded there", _first_line(error))
        return WandbLog("disabled", None, None, 0)
    return WandbLog("offline", run, worker, max_pictures)


def _online(about: Mapping[str, Any], limit_s: float) -> "tuple[_Worker, object]":
    end = time.monotonic() + limit_s
    # a thread of its own: neither a name look-up nor a connection through a proxy obeys a limit
    _Worker().wait_for(lambda: _sign_of_life(limit_s), limit_s)
    worker = _Worker()
    left = max(0.5, end - time.monotonic())
    return worker, worker.wait_for(lambda: _init(about, "online", left), left)


def _sign_of_life(timeout_s: float) -> None:
    """Return if the server answers anything at all over HTTP, through the proxy that is configured."""
    address = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    try:
        with urllib.request.urlopen(address, timeout=timeout_s):
            return
    except urllib.error.HTTPError:
        return  # an answer, if an unfriendly one
    except urllib.error.URLError as error:
        raise ConnectionError(f"{address}: {error.reason}") from None


def _init(about: Mapping[str, Any], mode: Literal["online", "offline"], timeout_s: float) -> object:
    # even an offline run reports on itself over the network (seen in 0.31) and delays the end of the
    # process where there is none; read when wandb is imported, and a user's own setting wins
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    # older versions cannot be asked; there login_timeout ends the question on the terminal
    can_ask = mode == "online" and "prompt" in inspect.signature(wandb.login).parameters
    if can_ask and not wandb.login(prompt=False):
        raise HemError("no API key: set WANDB_API_KEY or run `wandb login`")
    settings = wandb.Settings(init_timeout=timeout_s, silent=True, console="off", login_timeout=timeout_s)
    return wandb.init(mode=mode, settings=settings, reinit="create_new", **about)
