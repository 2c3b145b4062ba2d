"""Arguments of the commands that take names literally (of videos, of ids), not in Hydra's grammar."""

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hem.compose import EXIT_USER_ERROR
from hem.config import Strict, check, suggest
from hem.errors import HemError
from hem.signals import ending_with_the_reader

Schema = TypeVar("Schema", bound=Strict)
_REST, _REST_KEY = "--", "overrides"  # what follows -- belongs to another command


def read_arguments(schema: type[Schema], arguments: Sequence[str], positional: str | None = None) -> Schema:
    """Return ``key=value`` arguments, and one that stands alone, as ``schema``; values are taken literally.

    Args:
        schema: names the keys.
        arguments: as given on the command line.
        positional: the key of the argument that may stand alone.

    Raises:
        HemError: for an unknown, repeated or missing key, or a value that does not fit.
    """
    values: dict[str, Any] = {}
    if _REST in arguments and _REST_KEY in schema.model_fields:
        place = list(arguments).index(_REST)
        values[_REST_KEY] = list(arguments[place + 1 :])
        arguments = arguments[:place]
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if key not in schema.model_fields or not equals:
            if positional is None or positional in values:
                raise HemError(f"unknown argument {argument!r}{suggest(key, schema.model_fields)}")
            key, value = positional, argument
        if key in values:
            raise HemError(f"{key} is given twice")
        values[key] = None if value == "null" else value
    return check(schema, values)


def help_text(schema: type[Strict], usage: str, summary: str) -> str:
    """Return the help of a command: every key with what it means and its default."""
    lines = [f"usage: {usage}", "", summary, ""]
    for name, field in schema.model_fields.items():
        default = (
            "needed"
            if field.is_required()
            else f"default {'null' if field.default is None else field.default!r}"
        )
        lines.append(f"  {name:14} {field.description or ''} ({default})".rstrip())
    return "\n".join(lines)


def command(
    schema: type[Schema], usage: str, positional: str | None = None
) -> Callable[[Callable[[Schema], None]], Callable[[], None]]:
    """Make a command of a function that takes the checked arguments; see hem.compose.entry."""

    def decorate(work: Callable[[Schema], None]) -> Callable[[], None]:
        @ending_with_the_reader()
        def main() -> None:
            arguments = sys.argv[1:]
            if any(one in ("-h", "--help") for one in arguments):
                print(help_text(schema, usage, (work.__doc__ or "").strip()))
                return
            try:
                work(read_arguments(schema, arguments, positional))
            except HemError as error:
                print(f"hem: {error}", file=sys.stderr, flush=True)
                raise SystemExit(EXIT_USER_ERROR) from None

        main.__doc__ = work.__doc__
        return main

    return decorate
