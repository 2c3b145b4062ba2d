"""Verdicts as a log that only grows, removals as a small document; both survive a kill at any moment.

A verdict log is JSON lines: a line with the schema, then one line for each answer or undo, each written
with a single call and forced to disk before anybody is told that it is kept. A line that a kill cut
short is dropped by the next writer; nothing that was acknowledged is ever lost.
"""

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hem.artifacts.files import alone, digest_of, read_json, write_json
from hem.errors import HemError
from hem.structures.rulings import Answer, Drop, Place, Rulings, Verdict

try:
    import fcntl
except ImportError:  # not on Windows; there one review at a time must write a log
    fcntl = None  # type: ignore[assignment]

VERDICTS = Path("review") / "verdicts.jsonl"  # in the directory of a run
DROPS = "drops.json"  # in the directory of a run
_SCHEMA = "hem/verdicts/1"


class VerdictLog:
    """The verdicts of one file, for reading and for adding; safe between threads and processes.

    Args:
        path: the file; it is made by the first answer.

    Raises:
        HemError: if the file is not a verdict log, or a line other than a cut-off last one is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._read = 0
        self._answers: dict[str, list[tuple[str, Verdict]]] = {}
        self._order: list[tuple[str, str]] = []
        self.refresh()

    def refresh(self) -> None:
        """Take in what others wrote since."""
        with self._lock:
            if not self.path.is_file() or self.path.stat().st_size == self._read:
                return
            with self.path.open("rb") as stream:
                stream.seek(self._read)
                data = stream.read()
            whole = data[: data.rfind(b"\n") + 1]
            lines = whole.splitlines()
            for number, line in enumerate(lines):
                self._take(line, first=self._read == 0 and number == 0)
            self._read += len(whole)

    def _take(self, line: bytes, first: bool) -> None:
        try:
            entry = json.loads(line)
            if first:
                if entry.get("schema") != _SCHEMA:
                    raise HemError(f"{self.path} has schema {entry.get('schema')!r}, expected {_SCHEMA!r}")
            elif "undo" in entry:
                self._undone(str(entry["undo"]), str(entry["tab"]))
            else:
                self._answered(_verdict(entry["verdict"]), str(entry["tab"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            shown = line[:80].decode(errors="replace")
            raise HemError(f"{self.path} is not a whole verdict log, at {shown!r}: {error}") from None

    def _answered(self, verdict: Verdict, tab: str) -> None:
        self._answers.setdefault(verdict.example_id, []).append((tab, verdict))
        self._order.append((tab, verdict.example_id))

    def _undone(self, example_id: str, tab: str) -> None:
        given = self._answers.get(example_id, [])
        mine = [row for row, (by, _) in enumerate(given) if by == tab]
        if mine:
            given.pop(mine[-1])
            last = max(row for row, one in enumerate(self._order) if one == (tab, example_id))
            self._order.pop(last)
        if not given:
            self._answers.pop(example_id, None)

    @property
    def standing(self) -> dict[str, Verdict]:
        """The last answer about each example, by example id."""
        with self._lock:
            return {example_id: given[-1][1] for example_id, given in self._answers.items()}

    def last_of(self, tab: str) -> str | None:
        """Return the example that a tab answered last, or None."""
        with self._lock:
            return next((example_id for by, example_id in reversed(self._order) if by == tab), None)

    def add(self, verdicts: Sequence[Verdict], tab: str = "") -> None:
        """Add answers; on return they are on disk."""
        self._append([{"verdict": asdict(one), "tab": tab} for one in verdicts])

    def undo(self, tab: str, time: str) -> str | None:
        """Take back the last answer of a tab; return its example id, or None if there is none."""
        with self._lock:
            self.refresh()
            example_id = self.last_of(tab)
            if example_id is not None:
                self._append([{"undo": example_id, "tab": tab, "time": time}])
            return example_id

    def _append(self, entries: Sequence[Mapping[str, Any]]) -> None:
        text = "".join(json.dumps(entry, allow_nan=False) + "\n" for entry in entries)
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
            with _locked(descriptor):
                size = _whole_size(descriptor)
                os.ftruncate(descriptor, size)
                os.lseek(descriptor, size, os.SEEK_SET)
                header = json.dumps({"schema": _SCHEMA}) + "\n" if size == 0 else ""
                data = (header + text).encode()
                if os.write(descriptor, data) != len(data):
                    os.ftruncate(descriptor, size)
                    raise HemError(f"{self.path}: the answer could not be written whole; is the disk full?")
                os.fsync(descriptor)
            self.refresh()


@contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _whole_size(descriptor: int) -> int:
    """Return how many bytes of the file are whole lines."""
    size = os.lseek(descriptor, 0, os.SEEK_END)
    step = 1 << 16
    end = size
    while end > 0:
        first = max(0, end - step)
        os.lseek(descriptor, first, os.SEEK_SET)
        found = os.read(descriptor, end - first).rfind(b"\n")
        if found >= 0:
            return first + found + 1
        end = first
    return 0


def _verdict(entry: Mapping[str, Any]) -> Verdict:
    return Verdict(**{**entry, "place": Place(**entry["place"]), "answer": Answer(entry["answer"])})


def load_verdicts(path: Path) -> list[Verdict]:
    """Return the standing verdicts of a log, or of the directory of a run that was reviewed.

    Raises:
        HemError: if there are none, or the log is damaged.
    """
    file = path / VERDICTS if path.is_dir() else path
    if not file.is_file():
        raise HemError(f"{file} is not there; review the run first (python -m hem.review run_dir=…)")
    return list(VerdictLog(file).standing.values())


def load_drops(path: Path) -> list[Drop]:
    """Return the removals in a file, oldest first; [] if the file is not there.

    Raises:
        HemError: if the record is damaged.
    """
    if not path.exists():
        return []
    try:
        return [_drop(entry) for entry in read_json(path, "replay_drops")["drops"]]
    except (KeyError, TypeError, ValueError) as error:
        raise HemError(f"{path} is not a whole record of removals: {error}") from None


def add_drop(path: Path, record: Drop, known: Callable[[Drop], bool] = lambda old: False) -> bool:
    """Add a removal to a file, as its last; processes that add at the same time wait for each other.

    Args:
        path: the file; a hidden lock file stays beside it.
        record: the removal.
        known: whether a removal that is there says all that ``record`` says; then nothing is added.

    Returns:
        Whether it was added.

    Raises:
        HemError: if the record there is damaged.
    """
    with alone(path.with_name(f".{path.name}.lock")):
        drops = load_drops(path)
        if any(map(known, drops)):
            return False
        save_drops(path, [*drops, record])
    return True


def save_drops(path: Path, drops: Sequence[Drop]) -> None:
    """Write removals, oldest first, in the place of those that are there; add_drop keeps them."""
    write_json(path, "replay_drops", {"drops": [asdict(one) for one in drops]})


def _drop(entry: Mapping[str, Any]) -> Drop:
    lists = {name: tuple(entry.get(name, ())) for name in ("example_ids", "video_ids", "rules")}
    places = tuple(Place(**place) for place in entry.get("places", ()))
    return Drop(**{**entry, **lists, "places": places})


def load_rulings(path: Path) -> Rulings:
    """Return what was decided about a run, or what one file holds: a verdict log or a record of removals.

    Raises:
        HemError: if there is neither, or a record is damaged.
    """
    if path.is_file():
        drops_alone = path.name == DROPS
        return Rulings(drops=tuple(load_drops(path))) if drops_alone else Rulings(tuple(load_verdicts(path)))
    verdicts, drops = path / VERDICTS, path / DROPS
    if not (verdicts.is_file() or drops.is_file()):
        raise HemError(
            f"verdicts={path} holds neither {VERDICTS} nor {DROPS}: give the directory of a run that was "
            "reviewed (python -m hem.review run_dir=…) or dropped from (python -m hem.drop … run_dir=…)"
        )
    judged = load_verdicts(verdicts) if verdicts.is_file() else ()
    return Rulings(tuple(judged), tuple(load_drops(drops)))


def gather_rulings(run: Path, others: Sequence[Path] = ()) -> Rulings:
    """Return what was decided about a run (its own review and removals) and elsewhere.

    Where two say something about one example, the run's own review comes last and wins; removals add up.

    Args:
        run: its directory; nothing need be there.
        others: directories of other runs, verdict logs, records of removals; see load_rulings. A removal of
            a whole video holds for any video of that id, one of an example also for what lies at its place
            in a video of the same content.

    Raises:
        HemError: if one of ``others`` holds nothing, or a record is damaged.
    """
    found = [load_rulings(path) for path in others]
    if (run / VERDICTS).is_file() or (run / DROPS).is_file():
        found.append(load_rulings(run))
    verdicts = {one.example_id: one for rulings in found for one in rulings.verdicts}
    drops = [drop for rulings in found for drop in rulings.drops]
    return Rulings(tuple(verdicts.values()), tuple(dict.fromkeys(drops)))


def digest_of_rulings(rulings: Rulings) -> str:
    """Return a digest of all that changes what is taught; who decided and when is left out."""
    ordered = sorted(rulings.verdicts, key=lambda one: one.example_id)
    verdicts = [[one.example_id, one.answer.value, one.rule, asdict(one.place)] for one in ordered]
    drops = [[one.example_ids, one.video_ids, one.rules] for one in rulings.drops]
    return digest_of({"verdicts": verdicts, "drops": drops})
