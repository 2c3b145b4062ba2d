"""Pieces of HTML in which every text from outside is escaped."""

import base64
import html
import json
from collections.abc import Mapping, Sequence

from hem.errors import HemError
from hem.reporting.tables import MISSING


def escape(value: object) -> str:
    """Return any value as text that is safe between tags and in quoted attributes; None as a dash."""
    return MISSING if value is None else html.escape(str(value), quote=True)


def table(
    head: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "", class_name: str = ""
) -> str:
    """Return a table of escaped cells that scrolls sideways where it does not fit."""
    header = "".join(f'<th scope="col">{escape(one)}</th>' for one in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(one)}</td>" for one in row) + "</tr>" for row in rows)
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    opened = f'<table class="{escape(class_name)}">' if class_name else "<table>"
    top = f"<thead><tr>{header}</tr></thead>" if head else ""
    return f'<div class="scroll">{opened}{title}{top}<tbody>{body}</tbody></table></div>'


def records(rows: Sequence[Mapping[str, object]]) -> str:
    """Return a table of mappings; columns in the order in which they first appear."""
    head = list(dict.fromkeys(name for row in rows for name in row))
    return table(head, [[_shown(row.get(name)) for name in head] for row in rows])


def pairs(values: Mapping[str, object]) -> str:
    """Return a two-column table of names and values."""
    return table([], [(name, _shown(value)) for name, value in values.items()], class_name="words")


def _shown(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value


def image_uri(data: bytes) -> str:
    """Return picture bytes (SVG, PNG or JPEG, told by their first bytes) as a data URI.

    As the source of an ``img`` an SVG runs no script and loads nothing.

    Raises:
        HemError: if the bytes are none of these.
    """
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        kind = "image/png"
    elif data.startswith(b"\xff\xd8\xff"):
        kind = "image/jpeg"
    elif b"<svg" in data[:2000]:
        kind = "image/svg+xml"
    else:
        raise HemError(f"a picture for the page is neither SVG, PNG nor JPEG (it starts with {data[:8]!r})")
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def picture(data: bytes, caption: str) -> str:
    """Return a figure with its caption."""
    source = image_uri(data)
    return (
        f'<figure><img src="{source}" alt="{escape(caption)}" loading="lazy">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def embedded_json(element_id: str, value: object) -> str:
    """Return data as an inert script element; no text in it can end the element or open a comment."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    # U+2028 and U+2029 are legal JSON but line ends elsewhere
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="{escape(element_id)}">{text}</script>'
