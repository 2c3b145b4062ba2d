"""Texts on a command line that are not so in Hydra's grammar: quoted, or refused with how to write them."""

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from hem.errors import HemError


def quoted(arguments: Sequence[str], multirun: bool | None = None) -> list[str]:
    """Return the arguments, with quotes around values that are plain text but not so in Hydra's grammar.

    Such are paths with letters beyond ASCII, brackets, ``=``, or, if nothing is swept, commas. Lists,
    dicts, functions, quoted texts, and commas in a sweep are left alone unless they name a file.

    Args:
        multirun: whether ``a,b`` is a sweep; None looks for ``-m`` among the arguments.

    Raises:
        HemError: naming the first override that Hydra would not read even so, and how to write it.
    """
    if multirun is None:
        flags = ("-m", "--multirun")
        multirun = any(one in flags or one.startswith("hydra.mode=") for one in arguments)
    overrides = set(overrides_in(arguments))
    return [_quoted(one, multirun) if one in overrides else one for one in arguments]


def in_quotes(text: str) -> str:
    """Return a text as Hydra's grammar reads it back whatever is in it."""
    # a backslash there is one unless it stands before a quote
    inside = re.sub(r"(\\*)('|\Z)", lambda end: 2 * end[1] + ("\\'" if end[2] else ""), text)
    return f"'{inside}'"


def _quoted(one: str, multirun: bool) -> str:
    key, _, value = one.partition("=")
    parser = OverridesParser.create()
    as_text = f"{key}={in_quotes(value)}"
    try:
        parsed = parser.parse_override(one)
    except HydraException as error:
        structured = re.match(rf"\s*(['\"\[{{]|({'|'.join(parser.functions.functions)})\()", value)
        if _exists(value) or not (structured or (multirun and "," in value)):
            with suppress(HydraException):  # the key is what does not fit
                if parser.parse_override(as_text).value() == value:
                    return as_text
        way = f"quote texts with special characters twice, for Hydra and for the shell: \"{key}='…'\""
        raise HemError(f"configuration: Hydra cannot read {one} ({first_line(error)}); {way}") from None
    if multirun or not parsed.is_choice_sweep() or "choice(" in value:
        return one
    # one that is not there yet may be an output folder to be made
    if _exists(value) or ("/" in value and _exists(str(Path(value).parent))):
        return as_text
    raise HemError(
        f"configuration: {one} is several values: for one text with a comma quote it twice, "
        f"\"{as_text}\"; for a list write '{key}=[{value}]'; for one run of each add -m"
    )


def _exists(path: str) -> bool:
    with suppress(OSError, ValueError):  # not even a possible path
        return Path(path).exists()
    return False


def overrides_in(arguments: Sequence[str]) -> list[str]:
    """Return the arguments that are `key=value`."""
    return [one for one in arguments if "=" in one and not one.startswith("-")]


def first_line(error: Exception) -> str:
    """Return the first line of what an error says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
