"""``python -m hem.completion COMMAND WORD [WORDS …]``: what a shell may offer; called by its script."""

import sys

from hem.cli import COMMANDS
from hem.command_line import choices, files, schema_of
from hem.signals import ending_with_the_reader


@ending_with_the_reader()
def main() -> None:
    """Print the choices, separated by blanks."""
    command, word, *words = [*sys.argv[1:], "", ""][: max(2, len(sys.argv) - 1)]
    if command not in COMMANDS and schema_of(command) is None:
        module = "hem." if word.startswith("hem") else ""
        print(" ".join(module + name for name in COMMANDS if name.startswith(command)))
        return
    print(" ".join(choices(command, word, words) or files(word)))


if __name__ == "__main__":
    main()
