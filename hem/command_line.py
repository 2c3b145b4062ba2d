"""What a command answers before it runs: help, shell completion, and which mistyped key was meant."""

import os
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import hem.config
from hem.compose import conf_dir
from hem.config import Strict, suggest
from hem.errors import HemError
from hem.quotes import first_line, overrides_in, quoted
from hem.reference import Setting, settings_of

_WIDTH = 110
_OF_SWEEPS = "sweep"  # files of hem.sweep, which Hydra does not compose
_OTHER_CONFIG = re.compile(r"^(-c[pnd]|--config-(path|name|dir))\b")
_FLAGS_OF_HYDRA = """\
  --cfg job       print the composed configuration and stop
  -m, --multirun  run every combination of values given as a,b,c
  --hydra-help    what else Hydra, which composes the configuration, can do
  -sc install=bash  print the completion script: eval "$(python -m hem.train -sc install=bash)"
"""


def schema_of(command: str) -> type[Strict] | None:
    """Return the schema of a command, or None if it has none in hem.config."""
    found = getattr(hem.config, f"{command.title().replace('_', '')}Config", None)
    return found if isinstance(found, type) and issubclass(found, Strict) else None


def groups() -> dict[str, list[str]]:
    """Return the names of the files of every configuration group, by group."""
    found = {
        folder.name: sorted(path.stem for path in folder.glob("*.yaml"))
        for folder in sorted(conf_dir().iterdir())
        if folder.is_dir() and folder.name != _OF_SWEEPS
    }
    return {group: names for group, names in found.items() if names}


def groups_of(command: str) -> dict[str, list[str]]:
    """Return the groups that a command can take; a plain setting of the same name hides a group."""
    try:
        base = OmegaConf.to_container(composed(command), resolve=False)
    except (HydraException, OmegaConfBaseException):  # a group must be chosen before it composes
        base = {}
    assert isinstance(base, dict)
    return {name: files for name, files in groups().items() if isinstance(base.get(name, {}), dict)}


def composed(command: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Return a command's configuration, interpolations unresolved; the first value of a swept key counts.

    Raises:
        HydraException: if an override does not fit.
    """
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name=command):
        single = [_single(one) for one in OverridesParser.create().parse_overrides(list(overrides))]
        return compose(command, [one for one in single if one is not None])


def _single(override: Override) -> str | None:
    if override.is_delete():
        return override.input_line
    if override.key_or_group.split("/")[0] == "hydra" or override.key_or_group.startswith("hydra."):
        return None
    if not override.is_sweep_override():
        return override.input_line
    first = next(iter(override.sweep_string_iterator()), None) if override.is_choice_sweep() else None
    sign = "++" if override.is_force_add() else "+" if override.is_add() else ""
    return None if first is None else f"{sign}{override.get_key_element().lstrip('+')}={first}"


# -- help ----------------------------------------------------------------------------------------------


def answered(command: str, arguments: Sequence[str], summary: str) -> bool:
    """Answer ``--help`` and ``-sc install=bash``; False if the command has to run."""
    if any(one in ("-h", "--help") for one in arguments):
        print(help_text(command, overrides_in(arguments), summary))
        return True
    asked = {"-sc", "--shell-completion"} & set(arguments)
    if asked and {"install=bash", "install=zsh"} & set(arguments):
        print(completion_script())
        return True
    if asked and {"uninstall=bash", "uninstall=zsh"} & set(arguments):
        print("complete -r hem python python3 2> /dev/null; unset -f _hem_complete")
        return True
    return False


def rows_of(command: str, overrides: Sequence[str] = ()) -> list[Setting]:
    """Return every setting of a command as the overrides leave it.

    Raises:
        HemError: if an override does not fit.
    """
    try:
        config = composed(command, overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise HemError(f"configuration: {first_line(error)}") from None
    values = OmegaConf.to_container(config, resolve=False)
    assert isinstance(values, dict)
    schema = schema_of(command)
    if schema is None:
        return []
    return settings_of(schema, {str(key): value for key, value in values.items()})


def help_text(command: str, overrides: Sequence[str], summary: str) -> str:
    """Return the help of a command: groups, then every setting with meaning, type, range and value."""
    overrides = signed(command, overrides, multirun=True)
    rows = rows_of(command, overrides)
    used = {row.key.split(".")[0] for row in rows} | ({"experiment"} if command == "train" else set())
    lines = [f"usage: python -m hem.{command} [group=NAME] [key=value …]", "", summary, ""]
    available = {group: names for group, names in groups_of(command).items() if group in used}
    if available:
        lines.append("groups (group=NAME takes a file of conf/GROUP; a group's keys can be set one by one):")
        for group, names in available.items():
            sign = "+" if group == "experiment" else ""
            lines += _wrapped(f"  {sign + group + '=':13}", ", ".join(names))
        lines.append("")
    lines.append("settings (key=value as it stands now; what it means (type and range)):")
    for row in rows:
        lines.append(f"  {row.key}={row.default}")
        meaning = f"{row.meaning} ({row.kind})" if row.kind else row.meaning
        lines += _wrapped("      ", meaning.strip()) if meaning.strip() else []
    return "\n".join([*lines, "", "options:", _FLAGS_OF_HYDRA.rstrip()])


def _wrapped(start: str, text: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=start, subsequent_indent=" " * len(start), break_long_words=False
    ) or [start.rstrip()]


# -- mistyped keys ----------------------------------------------------------------------------------------


def signed(command: str, arguments: Sequence[str], multirun: bool | None = None) -> list[str]:
    """Return the arguments as Hydra wants them: texts quoted, and signs before keys no chosen file names.

    Such a key is one of the constructor's or the schema's, left at its default by the files.

    Args:
        command: for example ``train``.
        arguments: all that follows the command.
        multirun: as in ``quoted``.

    Raises:
        HemError: as quoted and check_overrides.
    """
    arguments = quoted(arguments, multirun)
    unnamed = check_overrides(command, arguments)
    return [f"++{one}" if one.split("=")[0] in unnamed else one for one in arguments]


def check_overrides(command: str, arguments: Sequence[str]) -> set[str]:
    """Say which key or group file was meant where one does not exist; all else is left to Hydra.

    Returns:
        Keys that exist although the chosen files do not name them; see ``signed``.

    Raises:
        HemError: naming the first override that fits nothing, and the nearest name that exists.
    """
    if any(_OTHER_CONFIG.match(one) for one in arguments):
        return set()  # keys may come from elsewhere
    try:
        overrides = OverridesParser.create().parse_overrides(overrides_in(arguments))
    except HydraException:
        return set()  # not in Hydra's grammar, which ``quoted`` sees to
    known_groups = groups_of(command)
    chosen = []
    for one in overrides:
        group = one.key_or_group.split("@")[0]
        if group in known_groups and one.is_sweep_override() is False and isinstance(one.value(), str):
            _check_group_file(group, str(one.value()), known_groups[group])
        if group in known_groups:
            _check_taken(command, one, group, known_groups)
            chosen.append(str(one.input_line))
    try:
        config = composed(command, chosen)
    except (HydraException, OmegaConfBaseException) as error:
        _check_sign(error, overrides, known_groups)
        return set()
    unnamed = set()
    for one in overrides:
        plain_key = not (one.is_add() or one.is_force_add() or one.is_delete())
        if one.key_or_group in known_groups or "@" in str(one.input_line):
            continue
        if plain_key and not _is_named(config, one.key_or_group, known_groups, command):
            unnamed.add(one.key_or_group)
    return unnamed


def _check_group_file(group: str, name: str, known: Sequence[str]) -> None:
    nested = (conf_dir() / group / f"{name}.yaml").is_file()
    if name not in known and not nested:
        raise HemError(f"configuration: no {group}={name}{suggest(name, known)}")


def _check_taken(command: str, override: Override, group: str, known: Mapping[str, object]) -> None:
    """Refuse a group of another command; `train` takes experiments, which touch every group."""
    schema = schema_of(command)
    if command == "train" or schema is None or not override.is_add():
        return
    taken = schema.model_fields
    if group not in taken:
        own = suggest(group, set(known) & set(taken))
        raise HemError(f"configuration: hem.{command} does not take {group}={override.value()}{own}")


def _check_sign(error: Exception, overrides: Sequence[Override], known_groups: Mapping[str, object]) -> None:
    for one in overrides:
        wanted = one.key_or_group in known_groups and not (one.is_add() or one.is_delete())
        if wanted and f"Could not override '{one.key_or_group}'" in str(error):
            raise HemError(
                f"configuration: no {one.key_or_group} is chosen by default; add one with +{one.input_line}"
            ) from None


def _is_named(config: DictConfig, key: str, known_groups: Mapping[str, object], command: str) -> bool:
    """Return whether the composed files hold the key; raise HemError if nothing takes it."""
    if key.startswith(("hydra.", "hydra/")) or "/" in key:
        return True
    node: Any = OmegaConf.to_container(config, resolve=False)
    parts = key.split(".")
    for depth, part in enumerate(parts):
        if not isinstance(node, dict):
            return True  # an index into a list; Hydra knows more
        if part not in node:
            before = ".".join(parts[:depth])
            _refuse_unknown(command, config, key, before, part, [*node, *([] if before else known_groups)])
            return False
        node = node[part]
    return True


def _refuse_unknown(
    command: str, config: DictConfig, key: str, before: str, part: str, names: Sequence[object]
) -> None:
    """Say that a key is mistyped, unless a constructor or the schema takes it."""
    schema = schema_of(command)
    values = OmegaConf.to_container(config, resolve=False)
    assert isinstance(values, dict)
    rows = settings_of(schema, {str(k): v for k, v in values.items()}) if schema else []
    patterns = [re.escape(row.key).replace("NAME", r"[^.]+") for row in rows]
    if any(re.fullmatch(pattern, key) for pattern in patterns):
        return  # its default is the constructor's or the schema's
    depth = before.count(".") + 1 if before else 0
    beside = [row.key.split(".") for row in rows if row.key.count(".") >= depth]
    beside_names = {one[depth] for one in beside if ".".join(one[:depth]) == before}
    full = f"{before}.{part}" if before else part
    raise HemError(
        f"configuration: unknown key {full!r}{suggest(part, {*map(str, names), *beside_names} - {'NAME'})}"
    )


# -- completion ----------------------------------------------------------------------------------------------

_SCRIPT = r"""_hem_complete() {
    local words=(${COMP_LINE:0:COMP_POINT}) name rest
    case "${words[0]##*/}" in
        python*)
            if [ "${words[1]}" != "-m" ]; then return; fi  # files, as ever
            name="${words[2]}"; rest=3 ;;
        *) name="hem.${words[1]}"; rest=2 ;;
    esac
    case "$name" in
        hem) name="hem.${words[3]}"; rest=4 ;;
    esac
    case "$name" in hem|hem.*) ;; *) return ;; esac
    local last="" choices
    if [ "${COMP_LINE: -1}" != " " ]; then last="${words[${#words[@]}-1]}"; fi
    choices=$(@PYTHON@ -m hem.completion "${name#hem.}" "$last" "${words[@]:$rest}" 2> /dev/null)
    COMPREPLY=($(compgen -o nospace -o default -W "$choices" -- "$last"))
}
if [ -n "$ZSH_VERSION" ]; then autoload -U +X bashcompinit && bashcompinit; fi
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -o default -F _hem_complete hem python python3
"""


def completion_script() -> str:
    """Return a script for bash and zsh that completes ``hem COMMAND`` and ``python -m hem.COMMAND``."""
    return _SCRIPT.replace("@PYTHON@", f"'{sys.executable}'")


def choices(command: str, word: str, before: Sequence[str]) -> list[str]:
    """Return what ``word`` may become: groups, files of a group, keys, keys a constructor takes.

    Args:
        command: for example ``train``.
        word: what has been typed of the last word.
        before: the words before it, and perhaps itself.
    """
    sign = "+" if word.startswith("+") else ""
    typed = word.removeprefix("+")
    known = groups_of(command)
    group, equals, _ = typed.partition("=")
    if equals:
        return [
            f"{sign}{group}={name}" for name in known.get(group, []) if f"{group}={name}".startswith(typed)
        ]
    overrides = [one for one in overrides_in(before) if one != word]
    keys: list[str] = []
    with suppress(HemError):
        overrides = quoted(overrides, multirun=True)
        keys = [row.key for row in rows_of(command, overrides) if "NAME" not in row.key]
    used = {key.split(".")[0] for key in keys} | ({"experiment"} if command == "train" else set())
    names = [f"{group}=" for group in known if group in used and (group != "experiment" or sign)]
    if "." in typed or sign:
        names += [f"{key}=" for key in keys]
    else:  # one level at a time: all at once would fill the screen
        names += [f"{key}=" if "." not in key else f"{key.split('.')[0]}." for key in keys]
    return sorted({sign + name for name in names if name.startswith(typed)})


def files(word: str) -> list[str]:
    """Return paths that complete the value of ``key=path``."""
    key, equals, start = word.partition("=")
    if not equals:
        return []
    folder, stem = os.path.split(start)
    with suppress(OSError):
        found = sorted(path for path in Path(folder or ".").iterdir() if path.name.startswith(stem))
        return [f"{key}={Path(folder) / one.name}{'/' if one.is_dir() else ''}" for one in found]
    return []
