"""What can be set, and what can be typed? The pages of docs/reference/, made from the code and from params.yaml.

    python -m ragtide.flows.cli.reference

A key is explained where it is set, in the comment beside it in params.yaml; its type and limits are those of params.py.
A command is explained by its own `--help`. So nothing is said twice, and tests/test_docs.py fails where a page is old.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

import ragtide
from ragtide.flows.cli.main import app
from ragtide.pipelines.params import Params
from ragtide.pipelines.records.base import write_text_atomically
from ragtide.pipelines.reports.markdown import markdown_table

ROOT = Path(ragtide.__file__).parent.parent
FOLDER = ROOT / "docs" / "reference"
SETTING = re.compile(r"(?P<indent> *)(?P<key>\w+):(?P<value>[^#]*)(?:# (?P<comment>.+))?")
MADE = "Made from the code by `python -m ragtide.flows.cli.reference`: do not edit."
KINDS = {
    "null": "`null`",
    "boolean": "`true`, `false`",
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "object": "names, each:",
    "array": "list, each:",
}
Schema = Mapping[str, Any]


def reference_pages() -> dict[str, str]:
    """Every page of the reference: its file's name, and its text."""
    return {"params.md": params_page(), "commands.md": commands_page()}


def params_page() -> str:
    """A chapter a block of params.yaml, a row a key."""
    schema = Params.model_json_schema()
    said = read_comments((ROOT / "params.yaml").read_text(encoding="utf-8"))
    parts = [
        "# params.yaml",
        f"{MADE} A key is explained in `params.yaml`, its limits are in `pipelines/params.py`.",
        "What a project's file does not name has its default; an unknown key is an error that names it.",
    ]
    for block, where in schema["properties"].items():
        about = _definition(schema, where)
        parts += [f"## {block}", " ".join(about["description"].split()), _keys(schema, block, said)]
    return "\n\n".join(parts) + "\n"


def read_comments(text: str) -> dict[str, str]:
    """The comment beside each key of a params.yaml, by the key's full name; a key without one has an empty comment."""
    found: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in text.splitlines():
        if setting := SETTING.fullmatch(line):
            indent = len(setting["indent"])
            above = [(deep, name) for deep, name in above if deep < indent] + [(indent, setting["key"])]
            found[".".join(name for _, name in above)] = (setting["comment"] or "").strip()
    return found


def commands_page() -> str:
    """A chapter a topic of `ragtide --help`, a section a command."""
    parts = ["# Commands", f"{MADE} `ragtide COMMAND --help` says the same."]
    parts.append("What a command's end says to a script: [exit codes](../runbook.md#exit-codes).")
    for topic, commands in groupby(every_command(), lambda one: one.topic):
        parts.append(f"## {topic}")
        for one in commands:
            parts += _told(one)
    return "\n\n".join(parts) + "\n"


@dataclass(frozen=True)
class TypedCommand:
    """A command as it is typed after `ragtide`, with the topic that it stands under."""

    words: str
    topic: str
    command: Any


def every_command() -> Iterator[TypedCommand]:
    """Each command in the order of `ragtide --help`; of a group, such as `hooks`, those in it."""
    root: Any = get_command(app)
    for name, command in root.commands.items():
        within = getattr(command, "commands", {"": command})
        for last, one in within.items():
            yield TypedCommand(f"{name} {last}".strip(), command.rich_help_panel, one)


def _told(typed: TypedCommand) -> Iterator[str]:
    command, context = typed.command, typer.Context(typed.command)
    yield f"### ragtide {typed.words}"
    yield command.help or ""
    yield f"    ragtide {typed.words} {' '.join(command.collect_usage_pieces(context))}"
    records = [record for one in command.get_params(context) if (record := one.get_help_record(context))]
    rows = [(f"`{name}`", about) for name, about in records if name != "--help"]
    if rows:
        yield markdown_table(("argument or option", "what it is"), rows)


def _keys(schema: Schema, block: str, said: Mapping[str, str]) -> str:
    rows = [(f"`{name}`", _default(key), _allowed(key), said.get(name, "")) for name, key in _flat(schema, block)]
    return markdown_table(("key", "default", "allowed", "what it means"), rows)


def _flat(schema: Schema, above: str, block: Schema | None = None) -> Iterator[tuple[str, Schema]]:
    """The keys of a block by their full names, those of a block within it too."""
    for name, key in _definition(schema, block or schema["properties"][above])["properties"].items():
        if "$ref" in key:
            yield from _flat(schema, f"{above}.{name}", key)
        else:
            yield f"{above}.{name}", key


def _definition(schema: Schema, where: Schema) -> Schema:
    found: Schema = schema["$defs"][where["$ref"].rpartition("/")[2]]
    return found


def _default(key: Schema) -> str:
    return f"`{json.dumps(key['default'])}`" if key.get("default") != "" else "empty"


def _allowed(key: Schema) -> str:
    """The values that a key takes, in words."""
    if "anyOf" in key:
        return ", or ".join(map(_allowed, key["anyOf"]))
    if "enum" in key:
        return ", ".join(f"`{one}`" for one in key["enum"])
    if "pattern" in key:
        return f"text of the form `{key['pattern']}`"
    inner = key.get("additionalProperties") or key.get("items")
    return KINDS[key["type"]] + _limits(key) + (f" {_allowed(inner)}" if inner else "")


def _limits(key: Schema) -> str:
    words = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "up to", "exclusiveMaximum": "below"}
    told = [f"{word} {key[limit]:,}" for limit, word in words.items() if limit in key]
    return " " + " ".join(told) if told else ""


def write_reference() -> None:
    """Write every page."""
    for name, text in reference_pages().items():
        write_text_atomically(FOLDER / name, text)
        print(FOLDER / name)


if __name__ == "__main__":
    write_reference()
