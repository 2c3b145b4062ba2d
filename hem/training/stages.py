"""Finished stages, found again by the digest of everything that made them.

A stage is a directory that appears whole or not at all. Its name carries a key: the digest of the
settings, data and code version that determine its content. Running again therefore continues after
the last finished stage, sweeps share what they have in common, and a changed setting can never be
answered with an older result.
"""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hem.artifacts import alone, digest_of, read_json, write_json
from hem.errors import HemError

STAGE_FILE = "stage.json"


class StageStore:
    """A folder of finished stages.

    Args:
        root: where they live; runs that share it share their stages.
        say: called with one line when a stage starts, is reused, or ends.
    """

    def __init__(self, root: Path, say: Callable[[str], None] = lambda line: None) -> None:
        self.root = root
        self.say = say
        self.seconds: dict[str, float] = {}

    def path(self, name: str, made_by: Mapping[str, Any]) -> Path:
        """Return where a stage made by ``made_by`` is or will be."""
        return self.root / f"{name}-{digest_of(dict(made_by))[:16]}"

    def run(self, name: str, made_by: Mapping[str, Any], work: Callable[[Path], None]) -> Path:
        """Return the stage's directory, doing ``work(directory)`` first if it is not finished.

        ``work`` gets a directory that survives a kill, so it may resume from what it left there; the
        directory becomes the stage only when ``work`` returns. An exception passes through and
        leaves no stage behind. Of several processes that want one stage, one makes it and the others
        wait for it.
        """
        final = self.path(name, made_by)
        if (final / STAGE_FILE).is_file():  # nothing to wait for, and nothing is written
            return self._run(name, final, made_by, work)
        lock = self.root / "locks" / f"{final.name}.lock"
        with alone(lock, lambda: self.say(f"{name}: another run is making it; waiting")):
            return self._run(name, final, made_by, work)

    def _run(self, name: str, final: Path, made_by: Mapping[str, Any], work: Callable[[Path], None]) -> Path:
        if (final / STAGE_FILE).is_file():
            record = read_json(final / STAGE_FILE, "stage")
            self.seconds[name] = float(record["seconds"])
            self.say(f"{name}: found finished in {final}")
            return final
        if final.exists():
            raise HemError(f"{final} holds no {STAGE_FILE}: not a finished stage; remove the folder")
        working = self.root / f".{final.name}.working"
        working.mkdir(parents=True, exist_ok=True)
        clock = working / "seconds.json"
        before = float(json.loads(clock.read_text())["seconds"]) if clock.is_file() else 0.0
        self.say(f"{name}: {'continues' if before else 'starts'}")
        started = time.monotonic()
        try:
            work(working)
        except BaseException:
            write_json(clock, "clock", {"seconds": before + time.monotonic() - started})
            raise
        seconds = before + time.monotonic() - started
        clock.unlink(missing_ok=True)
        write_json(
            working / STAGE_FILE, "stage", {"name": name, "made_from": dict(made_by), "seconds": seconds}
        )
        working.replace(final)
        self.seconds[name] = seconds
        self.say(f"{name}: done in {seconds:.0f} s")
        return final
