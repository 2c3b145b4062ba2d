"""Taking examples out of a written round, with a record of what, why and when."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from hem.artifacts import load_examples, read_json, write_json
from hem.errors import HemError

_DROPPED, _EXAMPLES = "dropped.json", "hard_examples.parquet"


@dataclass(frozen=True)
class Drop:
    """One removal.

    Attributes:
        asked: what was asked for, in words.
        example_ids: the examples it named, which become ignore regions.
        video_ids: videos it named, whose frames leave the round.
        reason: why, as given.
        time: when, ISO 8601 in UTC.
    """

    asked: str
    example_ids: tuple[str, ...]
    video_ids: tuple[str, ...]
    reason: str
    time: str


def read_drops(directory: Path) -> list[Drop]:
    """Return what was dropped from a round, oldest first; nothing if there is no record.

    Raises:
        HemError: if the record is damaged.
    """
    path = directory / _DROPPED
    if not path.exists():
        return []
    entries = read_json(path, "replay_drops")["drops"]
    return [
        Drop(
            **{
                **entry,
                "example_ids": tuple(entry["example_ids"]),
                "video_ids": tuple(entry["video_ids"]),
            }
        )
        for entry in entries
    ]


def drop(
    directories: Sequence[Path],
    *,
    example_ids: Collection[str] = (),
    video_ids: Collection[str] = (),
    rules: Collection[str] = (),
    reason: str = "",
) -> dict[Path, Drop]:
    """Take examples out of the rounds given, by permanent id, by video or by rule.

    Nothing is deleted: a record is added to ``dropped.json`` beside the manifest, and load_round
    honours it. Rounds not given, and rounds written later, are untouched.

    Returns:
        The new record of each round in which something matched.

    Raises:
        HemError: if one of the names matches nothing in any of the rounds (a slip of the pen), or
            nothing is asked for.
    """
    asked = {"id": set(example_ids), "video": set(video_ids), "rule": set(rules)}
    if not any(asked.values()):
        raise HemError("nothing to drop: name an example id, a video or a rule")
    loaded = {directory: load_examples(directory / _EXAMPLES)[0] for directory in directories}
    known = {
        "id": {e.example_id for examples in loaded.values() for e in examples},
        "video": {e.video_id for examples in loaded.values() for e in examples},
        "rule": {e.rule for examples in loaded.values() for e in examples},
    }
    for what, names in asked.items():
        for name in sorted(names - known[what]):
            raise HemError(
                f"no example with {what} {name!r} in {', '.join(map(str, directories)) or 'no round'}"
            )
    words = ", ".join(f"{what} {name}" for what, names in asked.items() for name in sorted(names))
    done: dict[Path, Drop] = {}
    for directory, examples in loaded.items():
        found_ids = {e.example_id for e in examples if e.example_id in asked["id"] or e.rule in asked["rule"]}
        found_videos = {e.video_id for e in examples} & asked["video"]
        if not found_ids and not found_videos:
            continue
        now = datetime.now(UTC).isoformat(timespec="seconds")
        record = Drop(words, tuple(sorted(found_ids)), tuple(sorted(found_videos)), reason, now)
        entries = [asdict(one) for one in [*read_drops(directory), record]]
        write_json(directory / _DROPPED, "replay_drops", {"drops": entries})
        done[directory] = record
    return done
