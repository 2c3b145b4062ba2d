"""Taking examples out of a written round, with a record of who, what, why and when."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path

from hem.artifacts import load_examples
from hem.artifacts.rulings import add_drop, load_drops
from hem.errors import HemError
from hem.structures import Drop, HardExample
from hem.structures.rulings import JUDGED_KINDS, place_of

_DROPPED, _EXAMPLES = "dropped.json", "hard_examples.parquet"

__all__ = ["Drop", "drop", "drop_record", "read_drops"]


def read_drops(directory: Path) -> list[Drop]:
    """Return what was dropped from a round, oldest first; nothing if there is no record.

    Raises:
        HemError: if the record is damaged.
    """
    return load_drops(directory / _DROPPED)


def drop_record(
    examples: Collection[HardExample],
    *,
    example_ids: Collection[str] = (),
    video_ids: Collection[str] = (),
    rules: Collection[str] = (),
    reason: str = "",
    who: str = "",
    time: str | None = None,
) -> Drop | None:
    """Return the removal of what was asked for from ``examples``, or None if nothing of it is there.

    Examples of a rule are named one by one besides the rule itself; its ignore regions stay as they are.
    """
    ids, named_rules = set(example_ids), set(rules)
    found = [
        one
        for one in examples
        if one.example_id in ids or (one.rule in named_rules and one.kind in JUDGED_KINDS)
    ]
    videos = {one.video_id for one in examples} & set(video_ids)
    if not found and not videos:
        return None
    asked = {"id": set(example_ids), "video": set(video_ids), "rule": set(rules)}
    words = ", ".join(f"{what} {name}" for what, names in asked.items() for name in sorted(names))
    named = sorted((one for one in found if one.example_id in ids), key=lambda e: e.example_id)
    return Drop(
        asked=words,
        example_ids=tuple(sorted({one.example_id for one in found})),
        video_ids=tuple(sorted(videos)),
        reason=reason,
        time=time or datetime.now(UTC).isoformat(timespec="seconds"),
        who=who,
        rules=tuple(sorted({one.rule for one in found} & named_rules)),
        places=tuple(dict.fromkeys(place_of(one) for one in named)),
    )


def drop(
    directories: Sequence[Path],
    *,
    example_ids: Collection[str] = (),
    video_ids: Collection[str] = (),
    rules: Collection[str] = (),
    reason: str = "",
    who: str = "",
) -> dict[Path, Drop]:
    """Take examples out of the rounds given, by permanent id, by video or by rule.

    Nothing is deleted: a record is added to ``dropped.json`` beside the manifest, and load_round
    honours it. Rounds not given are untouched; rounds that are mined later honour the removals kept in
    the run's own ``drops.json`` (see hem.artifacts.rulings.gather_rulings).

    Args:
        directories: finished rounds.
        example_ids, video_ids, rules: what to take out.
        reason, who: kept in the record.

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
    now = datetime.now(UTC).isoformat(timespec="seconds")
    done: dict[Path, Drop] = {}
    for directory, examples in loaded.items():
        record = drop_record(
            examples,
            example_ids=example_ids,
            video_ids=video_ids,
            rules=rules,
            reason=reason,
            who=who,
            time=now,
        )
        if record is not None:
            add_drop(directory / _DROPPED, record)
            done[directory] = record
    return done
