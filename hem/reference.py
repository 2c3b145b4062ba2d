"""Every setting of a command, from its schema and the constructors its configuration names.

``--help`` and the documentation's configuration page are both made of these rows, so neither can
describe a setting that does not exist or leave one out.
"""

import inspect
import re
import textwrap
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hem.errors import HemError
from hem.instantiate import locate

NEEDED = "needed"
_NODE = "_target_"
_WORDS: Mapping[object, str] = {
    int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "null",
}  # fmt: skip
_LIMITS = (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))
_UNITS = (
    ("_s", "seconds"), ("_px", "pixels"), ("_steps", "optimiser steps"), ("_fps", "frames per second"),
)  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """One key of a command.

    Attributes:
        key: dotted, as on the command line.
        kind: legal type and range in words.
        default: its value in the composed configuration, as text; ``needed`` if it has none.
        meaning: what it is, and what raising or lowering it costs; "" if nothing says so.
    """

    key: str
    kind: str
    default: str
    meaning: str


def settings_of(schema: type[BaseModel], values: Mapping[str, Any], prefix: str = "") -> list[Setting]:
    """Return the settings of a command in the order of its schema.

    Args:
        schema: of the command, or of a group in it.
        values: the composed configuration (or the group's part of it), interpolations unresolved.
        prefix: dotted key of the group, with a dot at its end.
    """
    rows: list[Setting] = []
    for name, field in schema.model_fields.items():
        key, value = f"{prefix}{name}", values.get(name, field.get_default(call_default_factory=True))
        group = _model_in(field.annotation)
        if isinstance(value, Mapping) and _NODE in value:
            rows += _node_or_what_is_there(value, key)
        elif group is not None and _is_dict(field.annotation):
            rows += [
                Setting(f"{key}.NAME.{one.key}", one.kind, one.default, one.meaning)
                for one in settings_of(group, {})
            ]
        elif group is not None:
            inner = value.model_dump() if isinstance(value, BaseModel) else value or {}
            rows += settings_of(group, inner, f"{key}.")
        elif isinstance(value, Mapping) and value:  # a node without a class, such as a protocol
            rows += [Setting(f"{key}.{one}", "", shown(given), "") for one, given in value.items()]
        else:
            missing = field.is_required() and name not in values
            rows.append(
                Setting(key, _kind(field), NEEDED if missing else shown(value), _meaning(name, field))
            )
    return rows


def _node_or_what_is_there(node: Mapping[str, Any], key: str) -> list[Setting]:
    try:
        return node_settings(node, key)
    except HemError:  # a wrong class is an error when it is built, not when help is asked for
        return [Setting(f"{key}.{name}", "", shown(value), "") for name, value in node.items()]


def node_settings(node: Mapping[str, Any], key: str) -> list[Setting]:
    """Return the settings of a part that is built from its ``_target_``: all its constructor takes.

    Raises:
        HemError: if the target names nothing, or nothing that a configuration may build.
    """
    target = locate(str(node[_NODE]), key, object)
    told, hints = told_in(target), _hints(target)
    rows = [Setting(f"{key}.{_NODE}", "class to build", str(node[_NODE]), _first_sentence(target))]
    for name, parameter in inspect.signature(target).parameters.items():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        if name in _GIVEN and name not in node:
            continue
        empty = parameter.default is inspect.Parameter.empty
        value = node.get(name, NEEDED if empty else parameter.default)
        kind = kind_of(hints[name]) if name in hints else ""
        rows.append(Setting(f"{key}.{name}", kind, shown(value), told.get(name, _SHARED.get(name, ""))))
    return rows


_SHARED = {  # what several constructors take and describe together elsewhere
    "score_scale": "how score settings are read: as raw scores, as quantiles over the whole run (see "
    "per_frame), or calibrated: as shares of true detections, measured on labelled images held back",
    "per_frame": "quantile scale: setting s is the score that the best (1 - s) * per_frame detections a "
    "frame reach; two to four times the objects in a frame. Higher: every score setting admits more. "
    "Range: > 0, finite.",
    "seed": "of all that is drawn; the run's own if the file says ${seed}",
}
_GIVEN = frozenset({"class_names", "progress", "store_dir"})  # what the commands themselves pass in


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError):  # an annotation that exists for type checkers alone
        return {}


def told_in(target: Callable[..., Any]) -> dict[str, str]:
    """Return what the ``Args:`` or ``Attributes:`` of a class, and of those it derives from, say by name.

    Where an entry only refers to another class (``see Contract``), that class's words are taken.
    """
    told: dict[str, str] = {}
    for one in inspect.getmro(target) if inspect.isclass(target) else (target,):
        for name, text in _entries(one.__doc__ or "").items():
            text = _followed(one, name, text)
            if name not in told or _REFERS.match(told[name]):
                told[name] = text
    return told


_REFERS = re.compile(r"(?:see|as in) (\w+)\b|as there\b")
_ENTRY = re.compile(r"([A-Za-z_][\w,\s]*?): (.*)", re.S)


def _followed(owner: Callable[..., Any], name: str, text: str) -> str:
    refers = _REFERS.match(text)
    if not refers or not refers[1]:
        return text
    module = inspect.getmodule(owner)
    other = getattr(module, refers[1], None) or getattr(inspect.unwrap(owner), refers[1], None)
    if other is None or other is owner or not callable(other):
        return text
    return _entries(other.__doc__ or "").get(name, text)


def _entries(doc: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for section in re.findall(r"^(?:Args|Attributes):\n((?:[ ]+.*\n?|\n)*)", inspect.cleandoc(doc), re.M):
        for item in re.split(r"\n(?=\S)", textwrap.dedent(section)):  # what is indented goes on
            entry = _ENTRY.match(re.sub(r"\s*\n\s+", " ", item.strip()))
            if entry:
                found |= {name.strip(): entry[2].strip() for name in entry[1].split(",")}
    return found


def _first_sentence(target: Callable[..., Any]) -> str:
    return (inspect.getdoc(target) or "").split("\n")[0]


def kind_of(hint: object) -> str:
    """Return a type in words."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " | ".join(map(str, inner))
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(kind_of(one) for one in inner))
    if inspect.isclass(origin) and issubclass(origin, Sequence):
        fixed = origin is tuple and Ellipsis not in inner
        return f"[{', '.join(map(kind_of, inner))}]" if fixed else f"list of {kind_of(inner[0])}"
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return "mapping"
    if hint in _WORDS:
        return _WORDS[hint]
    return hint.__name__ if inspect.isclass(hint) else "value"


def _kind(field: FieldInfo) -> str:
    limits = [
        f"{sign} {getattr(one, name):g}"
        for one in field.metadata
        for name, sign in _LIMITS
        if getattr(one, name, None) is not None
    ]
    return ", ".join([kind_of(field.annotation), *limits])


def _meaning(name: str, field: FieldInfo) -> str:
    meaning = field.description or ""
    unit = next((unit for end, unit in _UNITS if name.endswith(end)), None)
    if unit is None or unit.split(" ")[-1] in meaning:
        return meaning
    return f"{meaning} ({unit})".strip()


def shown(value: object) -> str:
    """Return a value as it would be written on the command line."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ",".join(shown(one) for one in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}: {shown(one)}" for key, one in value.items()) + "}"
    if isinstance(value, float):
        return f"{value:g}" if abs(value) < 1e5 else f"{value}"
    return NEEDED if value == "???" else '""' if value == "" else str(value)


def _model_in(hint: object) -> type[BaseModel] | None:
    candidates = (hint, *get_args(hint))
    return next((one for one in candidates if inspect.isclass(one) and issubclass(one, BaseModel)), None)


def _is_dict(hint: object) -> bool:
    return get_origin(hint) is dict
