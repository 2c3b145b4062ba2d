"""Building an object from ``{_target_: path.to.Class, argument: value}``, checked before it is called.

A configuration names code that is already installed; it never carries any. A target must be a class
or function of hem itself, or a class of the kind that is expected there (a user's own detector, for
example), and every argument is checked against the signature: unknown name, missing name, wrong type.
"""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from hem.config import suggest
from hem.errors import HemError

Built = TypeVar("Built")
_LOOSE = ConfigDict(arbitrary_types_allowed=True)


def locate(path: str, key: str, expected: type | None = None) -> Callable[..., Any]:
    """Return the class or function at a dotted path.

    Args:
        path: for example ``hem.detectors.retinanet.RetinaNet``.
        key: the configuration key, for messages.
        expected: the class it must derive from when it is not part of hem.

    Raises:
        HemError: if nothing is there, or it is not of the kind expected.
    """
    module_path, _, name = path.rpartition(".")
    try:
        module = importlib.import_module(module_path) if module_path else None
    except ModuleNotFoundError as error:
        raise HemError(
            f"{key}._target_={path}: no module {error.name!r}; is it installed and spelt right?"
        ) from None
    found = getattr(module, name, None)
    if found is None or not callable(found):
        names = [n for n, v in vars(module).items() if inspect.isclass(v)] if module else []
        raise HemError(
            f"{key}._target_={path}: {module_path or 'nothing'} has no {name!r}{suggest(name, names)}"
        )
    derives = inspect.isclass(found) and expected is not None and issubclass(found, expected)
    own = str(getattr(found, "__module__", "")).split(".")[0] == "hem"
    if not derives and (not own or (expected is not None and inspect.isclass(found))):
        kind = expected.__name__ if expected is not None else "part of hem"
        raise HemError(f"{key}._target_={path} is not a {kind}")
    return found


def instantiate(
    node: Mapping[str, Any], key: str, expected: type[Built] | None = None, **extra: object
) -> Built:
    """Build what ``node`` describes; nested ``_target_`` nodes are built first.

    Args:
        node: ``_target_`` and keyword arguments.
        key: the configuration key of the node, for messages.
        expected: class of the result.
        extra: arguments the caller gives (they win over the node's).

    Raises:
        HemError: for a missing or wrong target, an argument the constructor does not know (with the
            nearest known name), a missing one, or one of the wrong type.
    """
    if "_target_" not in node:
        raise HemError(f"{key} needs _target_, the class to build")
    target = locate(str(node["_target_"]), key, expected)
    arguments = {name: _nested(value, f"{key}.{name}") for name, value in node.items() if name != "_target_"}
    arguments.update(extra)
    check_arguments(target, arguments, key)
    built = target(**arguments)
    if expected is not None and not isinstance(built, expected):
        raise HemError(f"{key}: {node['_target_']} made a {type(built).__name__}, not a {expected.__name__}")
    return built


def _nested(value: object, key: str) -> object:
    if isinstance(value, Mapping):
        if "_target_" in value:
            return instantiate(value, key)
        return {name: _nested(one, f"{key}.{name}") for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_nested(one, f"{key}[{index}]") for index, one in enumerate(value)]
    return value


def check_arguments(target: Callable[..., Any], arguments: dict[str, Any], key: str) -> None:
    """Check ``arguments`` against the signature of ``target``; plain values are converted in place.

    Raises:
        HemError: naming the key of the first argument that does not fit.
    """
    parameters = inspect.signature(target).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    known = [name for name, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    for name in arguments:
        if name not in known and not open_ended:
            raise HemError(f"configuration: unknown key '{key}.{name}'{suggest(name, known)}")
    for name in known:
        if parameters[name].default is inspect.Parameter.empty and name not in arguments:
            raise HemError(f"configuration: key '{key}.{name}' is missing; give {key}.{name}=…")
    hints = _hints(target)
    for name, value in arguments.items():
        if name in hints:
            arguments[name] = _converted(value, hints[name], f"{key}.{name}")


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    function = target.__init__ if inspect.isclass(target) else target
    try:
        return get_type_hints(function)
    except (NameError, TypeError):  # an annotation that exists for type checkers alone
        return {}


def _converted(value: object, hint: Any, key: str) -> object:  # noqa: ANN401
    try:
        adapter = TypeAdapter(hint, config=_LOOSE)
    except (PydanticUserError, TypeError):
        adapter = None
    try:
        adapter = adapter or TypeAdapter(hint)
        return adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise HemError(f"configuration: {key}: {first['msg']} (got {value!r})") from None
    except (PydanticUserError, TypeError):
        return value  # a hint pydantic cannot read; the constructor checks it
