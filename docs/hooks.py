"""Fills the documentation from the code when it is built, so that no page can be out of date.

``configuration.md`` is made whole; ``{{ settings: GROUP/NAME }}`` on any page becomes a table of what that
file of ``conf/`` sets and its class takes.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from hem.cli import COMMANDS
from hem.command_line import groups, rows_of, schema_of
from hem.compose import conf_dir, group_file
from hem.reference import Setting, node_settings, settings_of

PAGE = "configuration.md"
CLASS_GROUPS = ("detector", "data", "mining", "augment")
_MARK = re.compile(r"^\{\{ settings: (\w+)/(\w+) \}\}$", re.M)
_INTRO = """\
# Configuration

This page is made from the schema and the files under `conf/` whenever the documentation is built.

A command takes settings as `key=value`, a file of a group as `group=NAME`, and an experiment as
`+experiment=NAME`. A setting that the chosen files do not name needs a plus: `+key=value`. `--help` shows
all of this for what was chosen, `--cfg job` the composed configuration. A key that does not exist, a wrong
type or a value out of range ends the command with one message that names it and, if there is one, the
nearest key.

Completion for bash and zsh, of keys, groups, their files and paths:

```
eval "$(python -m hem.train -sc install=bash)"
```
"""


def on_files(files: Any, config: Any) -> Any:  # noqa: ANN401
    """Add the generated page (a hook of MkDocs)."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, PAGE, content=configuration_page()))
    return files


def on_page_markdown(markdown: str, *, config: Any, **_: Any) -> str:  # noqa: ANN401
    """Replace the marks of a page by tables, and links to files beside docs/ by links to the repository."""
    return filled(markdown).replace("](../", f"]({config['repo_url'].rstrip('/')}/blob/main/")


def filled(markdown: str) -> str:
    """Return a page with its marks replaced."""
    return _MARK.sub(lambda mark: table(class_rows(group_file(mark[1], mark[2]), "")), markdown)


def configuration_page() -> str:
    """Return the page of every command's settings and every class that a group's files name."""
    parts = [_INTRO]
    for command in COMMANDS:
        rows = _own_rows(command)
        if rows:
            parts.append(f"## python -m hem.{command}\n\n{COMMANDS[command]}.\n\n{table(rows)}")
    for group in CLASS_GROUPS:
        parts.append(_group_part(group))
    return "\n\n".join(parts) + "\n"


def _own_rows(command: str) -> list[Setting]:
    """Return a command's settings without those of classes, which have tables of their own."""
    schema = schema_of(command)
    if not (conf_dir() / f"{command}.yaml").is_file():  # it takes its arguments as they are, without groups
        return [] if schema is None else settings_of(schema, {})
    rows = rows_of(command)
    classes = {row.key.removesuffix("._target_") for row in rows if row.key.endswith("._target_")}
    kept = [row for row in rows if not any(row.key.startswith(f"{name}.") for name in classes)]
    return [row for row in kept if command == "train" or not row.key.startswith(("replay.", "video."))]


def _group_part(group: str) -> str:
    lines = [f"## {group}", "", f"| `{group}=` | class | what its file says |", "|---|---|---|"]
    nodes: dict[str, Mapping[str, Any]] = {}
    for name in groups()[group]:
        path = conf_dir() / group / f"{name}.yaml"
        node = _content(path)
        nodes.setdefault(node["_target_"], {"_target_": node["_target_"]})
        own = node["_target_"].rpartition(".")[2]
        lines.append(f"| `{name}` | `{own}` | {_comment(path)} |")
    for target, node in nodes.items():
        lines += ["", f"### `{target}`", "", table(class_rows(node, f"{group}."))]
    return "\n".join(lines)


def _content(path: Path) -> Mapping[str, Any]:
    """Return a group file's content on top of the files of the group that it starts from."""
    node = yaml.safe_load(path.read_text(encoding="utf-8"))
    content: dict[str, Any] = {}
    for name in node.pop("defaults", ()):
        if isinstance(name, str) and name != "_self_":
            content |= _content(path.with_stem(name))
    return content | node


def _comment(path: Path) -> str:
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return _cell(" ".join(lines))


def class_rows(node: Mapping[str, Any], prefix: str) -> list[Setting]:
    """Return what a class takes, without the row that names it."""
    rows = node_settings(node, "x")[1:]
    return [Setting(prefix + row.key.removeprefix("x."), row.kind, row.default, row.meaning) for row in rows]


def table(rows: Sequence[Setting]) -> str:
    """Return settings as a Markdown table."""
    lines = ["| key | default | type and range | meaning |", "|---|---|---|---|"]
    lines += [
        f"| `{row.key}` | `{row.default.replace('|', '¦')}` | {_cell(row.kind)} | {_cell(row.meaning)} |"
        for row in rows
    ]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Return text that can break neither the table nor the page."""
    for character, safe in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("[", "\\["), ("*", "\\*")):
        text = text.replace(character, safe)
    return text.replace("``", "`")
