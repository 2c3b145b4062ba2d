"""``hem COMMAND …``, also as ``python -m hem COMMAND …``: one name for every command."""

import importlib
import sys
from collections.abc import Mapping, Sequence

from hem import __version__
from hem.config import suggest
from hem.signals import EXIT_INTERRUPTED, ending_with_the_reader

COMMANDS: Mapping[str, str] = {
    "train": "baseline, mining, arms, comparison, report",
    "mine": "hard examples without training",
    "detect": "detections of videos, drawn on request",
    "evaluate": "figures from predictions",
    "report": "the report of a finished run again",
    "review": "judge mined examples by eye; measures purity",
    "why": "where a mined example came from and when it was used",
    "drop": "take an example, a video or a rule out of the replay set",
    "export": "a replay set for training elsewhere",
    "convert": "a dataset as COCO JSON",
    "sweep": "search settings with Optuna; `hem sweep summary dir=DIR` compares finished runs",
}
_USAGE_ERROR = 2


@ending_with_the_reader()
def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; its own arguments follow its name."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in ("-V", "--version"):
        print(f"hem {__version__}")
        return
    if not given or given[0] in ("-h", "--help", "help"):
        print(help_text())
        return
    name, rest = given[0], given[1:]
    if name not in COMMANDS:
        print(f"hem: no command {name!r}{suggest(name, COMMANDS)}", file=sys.stderr)
        raise SystemExit(_USAGE_ERROR)
    module = name
    if name == "sweep" and rest[:1] == ["summary"]:
        module, rest = "sweep_summary", rest[1:]
    # the commands read sys.argv themselves, whether they are started from here or by python -m
    sys.argv = [f"hem {name}", *rest]
    try:
        found = importlib.import_module(f"hem.{module}")  # takes seconds, in which people think again
    except KeyboardInterrupt:
        print("hem: interrupted before anything was begun", file=sys.stderr, flush=True)
        raise SystemExit(EXIT_INTERRUPTED) from None
    found.main()


def help_text() -> str:
    """Return the list of commands."""
    width = max(len(name) for name in COMMANDS)
    lines = ["usage: hem COMMAND [key=value …]", "", "commands:"]
    lines += [f"  {name:{width}}  {words}" for name, words in COMMANDS.items()]
    return "\n".join([*lines, "", "hem COMMAND --help explains a command's settings"])


if __name__ == "__main__":
    main()
