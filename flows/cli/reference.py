"""Reference pages of docs/reference/, generated from the settings, params.yaml and the commands.

    python -m ragtide.flows.cli.reference

A setting is explained by its comment in params.yaml where it is shipped there, else by its comment in params.py, where
its type and limits are. A command is explained by its own `--help`. tests/flows/cli/test_reference.py fails if a page
is out of date.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import typer

import ragtide
from ragtide.flows.cli.main import app
from ragtide.pipelines import params
from ragtide.pipelines.params import Params
from ragtide.pipelines.records.base import write_text_atomically
from ragtide.pipelines.reports.markdown import markdown_table

ROOT = Path(ragtide.__file__).parent.parent
FOLDER = ROOT / "docs" / "reference"
SETTING = re.compile(r"(?P<indent> *)(?P<key>\w+):(?P<value>[^#]*)(?:# (?P<comment>.+))?")
GENERATED = "Generated from the code by `python -m ragtide.flows.cli.reference`; do not edit."
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
# Explained once for all commands.
COMMON_OPTIONS = {"help", "quiet", "verbose", "project"}


def reference_pages() -> dict[str, str]:
    """Every page of the reference: file name -> text."""
    return {"params.md": params_page(), "commands.md": commands_page()}


def params_page() -> str:
    """A section for each block of settings, with a row for each setting, shipped in params.yaml or not."""
    schema = Params.model_json_schema()
    shipped = read_comments((ROOT / "params.yaml").read_text(encoding="utf-8"))
    comments = field_comments() | {name: comment for name, comment in shipped.items() if comment}
    parts = [
        "# Settings",
        f"{GENERATED} Types and limits are defined in `pipelines/params.py`.",
        "Settings stand in the project's `params.yaml`. A setting that the file does not contain has its default. "
        "An unknown setting is an error that names it.",
    ]
    for block, reference in schema["properties"].items():
        description = _definition(schema, reference)["description"]
        parts += [f"## {block}", " ".join(description.split()), _settings_table(schema, block, comments)]
    return "\n\n".join(parts) + "\n"


def read_comments(text: str) -> dict[str, str]:
    """The comment beside each setting of a params.yaml, by the setting's full name; empty if it has none."""
    comments: dict[str, str] = {}
    parents: list[tuple[int, str]] = []
    for line in text.splitlines():
        if setting := SETTING.fullmatch(line):
            indent = len(setting["indent"])
            parents = [(depth, name) for depth, name in parents if depth < indent] + [(indent, setting["key"])]
            comments[".".join(name for _, name in parents)] = (setting["comment"] or "").strip()
    return comments


def field_comments() -> dict[str, str]:
    """The comment beside each setting's default in params.py, by the setting's full name."""
    source = inspect.getsource(params)
    lines = source.splitlines()
    classes = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}

    def comments_of(name: str, prefix: str) -> Iterator[tuple[str, str]]:
        for node in classes[name].body:
            if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
                continue
            key = f"{prefix}{node.target.id}"
            if (block := ast.unparse(node.annotation)) in classes:
                yield from comments_of(block, f"{key}.")
            else:
                beside = "\n".join(lines[node.lineno - 1 : node.end_lineno])
                yield key, " ".join(re.findall(r"  # (.+)", beside))

    return dict(comments_of("Params", ""))


def commands_page() -> str:
    """A chapter for each panel of `ragtide --help`, with a section for each command."""
    parts = [
        "# Commands",
        f"{GENERATED} `ragtide COMMAND --help` shows the same.",
        "Every command takes `--quiet`, `--verbose` and, except for `init`, `--project FOLDER`. With `--json`, stdout "
        "holds one JSON document with `kind` and `record_version`; progress and errors go to stderr. "
        "What the codes mean that a command ends with: [exit codes](../runbook.md#exit-codes).",
    ]
    for panel, commands in groupby(every_command(), lambda command: command.panel):
        parts.append(f"## {panel}")
        for command in commands:
            parts += _command_section(command)
    return "\n\n".join(parts) + "\n"


@dataclass(frozen=True)
class CommandEntry:
    """A command: the words typed after `ragtide`, its help panel, and the command itself."""

    words: str
    panel: str
    command: Any


def every_command() -> Iterator[CommandEntry]:
    """Every command in the order of `ragtide --help`; for a group, such as `hooks`, the commands in it."""
    root: Any = typer.main.get_command(app)
    for name, lazy in root.commands.items():
        command = lazy.load()
        for subcommand, entry in getattr(command, "commands", {"": command}).items():
            yield CommandEntry(f"{name} {subcommand}".strip(), lazy.rich_help_panel, entry)


def _command_section(entry: CommandEntry) -> Iterator[str]:
    command, context = entry.command, typer.Context(entry.command)
    yield f"### ragtide {entry.words}"
    yield command.help or ""
    yield f"    ragtide {entry.words} {' '.join(command.collect_usage_pieces(context))}"
    options = [option for option in command.get_params(context) if option.name not in COMMON_OPTIONS]
    rows = [(f"`{record[0]}`", record[1]) for option in options if (record := option.get_help_record(context))]
    if rows:
        yield markdown_table(("argument or option", "meaning"), rows)


def _settings_table(schema: Schema, block: str, comments: Mapping[str, str]) -> str:
    rows = [(f"`{name}`", _default(key), _allowed(key), comments[name]) for name, key in _settings(schema, block)]
    return markdown_table(("setting", "default", "allowed", "meaning"), rows)


def _settings(schema: Schema, parent: str, block: Schema | None = None) -> Iterator[tuple[str, Schema]]:
    """The settings of a block by their full names, including those of blocks within it."""
    for name, key in _definition(schema, block or schema["properties"][parent])["properties"].items():
        if "$ref" in key:
            yield from _settings(schema, f"{parent}.{name}", key)
        else:
            yield f"{parent}.{name}", key


def _definition(schema: Schema, reference: Schema) -> Schema:
    definition: Schema = schema["$defs"][reference["$ref"].rpartition("/")[2]]
    return definition


def _default(key: Schema) -> str:
    return f"`{json.dumps(key['default'])}`" if key.get("default") != "" else "empty"


def _allowed(key: Schema) -> str:
    """The values that a setting takes, in words."""
    if "anyOf" in key:
        return ", or ".join(map(_allowed, key["anyOf"]))
    if "enum" in key:
        return ", ".join(f"`{value}`" for value in key["enum"])
    if "pattern" in key:
        return f"text of the form `{key['pattern']}`"
    inner = key.get("additionalProperties") or key.get("items")
    return KINDS[key["type"]] + _limits(key) + (f" {_allowed(inner)}" if inner else "")


def _limits(key: Schema) -> str:
    words = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "up to", "exclusiveMaximum": "below"}
    limits = [f"{word} {key[limit]:,}" for limit, word in words.items() if limit in key]
    return " " + " ".join(limits) if limits else ""


def write_reference() -> None:
    """Write every page to docs/reference/."""
    for name, text in reference_pages().items():
        write_text_atomically(FOLDER / name, text)
        print(FOLDER / name)


if __name__ == "__main__":
    write_reference()
