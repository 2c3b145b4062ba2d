"""``hem drop ID|VIDEO|RULE run_dir=DIR``: take examples out of the replay set, with a record."""

import getpass
from collections.abc import Collection
from pathlib import Path

from hem.arguments import command
from hem.artifacts import load_examples
from hem.artifacts.rulings import DROPS, add_drop
from hem.config import DropConfig
from hem.errors import HemError
from hem.replay import drop, drop_record, read_drops
from hem.replay.stored import EXAMPLES, MANIFEST
from hem.reporting.provenance import Mined, read_mined, replay_folders
from hem.structures import Drop, Kind
from hem.structures.rulings import JUDGED_KINDS


@command(DropConfig, "hem drop ID|VIDEO|RULE run_dir=DIR [reason=WHY] [who=NAME]", positional="what")
def main(config: DropConfig) -> None:
    """Take an example, a video or a rule out of a run's replay set, and out of what is mined for it later."""
    run = Path(config.run_dir)
    mined = read_mined(run)
    named = _kind_of(mined, config)
    ids = {config.what} if named == "id" else set()
    videos = {config.what} if named == "video" else set()
    rules = {config.what} if named == "rule" else set()
    who = config.who or _account()
    record = drop_record(
        list(mined.examples()), example_ids=ids, video_ids=videos, rules=rules, reason=config.reason, who=who
    )
    assert record is not None  # _kind_of found it among the examples
    # the run's record first: were the command ended here, running it again would finish the rounds
    if not add_drop(run / DROPS, record, lambda old: _covers(old, record)):
        print(f"{named} {config.what} was dropped before; see {run / DROPS}")
    else:
        print(f"dropped {named} {config.what}: {_counted(record)}; recorded in {run / DROPS}")
    rounds = _drop_from_rounds(run, ids, videos, rules, config.reason, who)
    for directory in rounds:
        print(f"taken out of {directory}")
    print(f"the next hem.train or hem.mine that writes to {run} mines without it")


def _drop_from_rounds(
    run: Path, ids: Collection[str], videos: Collection[str], rules: Collection[str], reason: str, who: str
) -> list[Path]:
    """Take it out of every written round that holds it; return those rounds."""
    done: list[Path] = []
    for folder in replay_folders(run).values():
        for manifest in sorted(folder.glob(f"round_*/{MANIFEST}")):
            directory = manifest.parent
            examples, _ = load_examples(directory / EXAMPLES)
            here = drop_record(examples, example_ids=ids, video_ids=videos, rules=rules)
            if here is not None and not any(_covers(one, here) for one in read_drops(directory)):
                drop([directory], example_ids=ids, video_ids=videos, rules=rules, reason=reason, who=who)
                done.append(directory)
    return done


def _kind_of(mined: Mined, config: DropConfig) -> str:
    """Return what the name is: of an example, a video or a rule.

    Raises:
        HemError: if it is none of them, or more than one and ``named`` does not say which.
    """
    judged = [one for one in mined.examples() if one.kind in JUDGED_KINDS]
    fits = {
        "id": any(one.example_id == config.what for one in judged),
        "video": any(one.video_id == config.what for one in mined.examples()),
        "rule": any(one.rule == config.what for one in judged),
    }
    found = [name for name, fit in fits.items() if fit and config.named in (None, name)]
    ignored = {one.example_id for one in mined.examples() if one.kind is Kind.IGNORE}
    if not found and config.named in (None, "id") and config.what in ignored:
        raise HemError(
            f"{config.what} is an ignore region: neither object nor background is taught there, which is "
            "what dropping makes of an example; nothing was changed"
        )
    if not found:
        rules = ", ".join(sorted({one.rule for one in judged}))
        what = config.named or "example, video or rule"
        raise HemError(f"{mined.run}: no {what} {config.what!r} was mined there (rules: {rules or 'none'})")
    if len(found) > 1:
        raise HemError(f"{config.what!r} is {' and '.join(found)}; say which with named={found[0]}")
    return found[0]


def _covers(old: Drop, new: Drop) -> bool:
    return (
        set(new.video_ids) <= set(old.video_ids)
        and set(new.rules) <= set(old.rules)
        and set(new.example_ids) <= set(old.example_ids)
    )


def _counted(record: Drop) -> str:
    if record.video_ids:
        return "all its frames leave"
    count = len(record.example_ids)
    return "1 example becomes an ignore region" if count == 1 else f"{count} examples become ignore regions"


def _account() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no account name in some containers
        return ""


if __name__ == "__main__":
    main()
