"""Tests of the generated reference: pages are up to date and hold every setting and every command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from ragtide.flows.cli.main import PANELS
from ragtide.flows.cli.reference import (
    FOLDER,
    commands_page,
    every_command,
    field_comments,
    params_page,
    read_comments,
    reference_pages,
)
from ragtide.pipelines.params import Params

ROOT = Path(__file__).parents[3]


def setting_names(model: type[BaseModel], parent: str = "") -> Iterator[str]:
    """The full name of every typed setting."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from setting_names(field.annotation, f"{parent}{name}.")
        else:
            yield f"{parent}{name}"


@pytest.mark.parametrize("name", ["params.md", "commands.md"])
def test_a_page_is_up_to_date(name: str) -> None:
    written = (FOLDER / name).read_text(encoding="utf-8")
    assert written == reference_pages()[name], f"docs/reference/{name} is out of date: run `make reference`"


def test_every_shipped_setting_has_a_comment() -> None:
    comments = read_comments((ROOT / "params.yaml").read_text(encoding="utf-8"))
    assert not [key for key, comment in comments.items() if not comment]


def test_comments_are_read_by_the_full_name_of_a_setting() -> None:
    comments = read_comments("a:  # one\n  b:  # two\n    c: 1  # three\n  d: 2\n# a line\ne:\n")
    assert comments == {"a": "one", "a.b": "two", "a.b.c": "three", "a.d": "", "e": ""}


def test_the_page_of_settings_has_a_row_for_each_typed_setting_once() -> None:
    page, names = params_page(), list(setting_names(Params))
    assert len(names) > 80
    assert {name: page.count(f"\n| `{name}` |") for name in names} == dict.fromkeys(names, 1)


def test_a_shipped_setting_is_explained_by_params_yaml_and_every_other_one_by_its_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "params.yaml").write_text("index:\n  search: hybrid  # how it searches\n", encoding="utf-8")
    monkeypatch.setattr("ragtide.flows.cli.reference.ROOT", tmp_path)
    rows = {row.split("`")[1]: row for row in params_page().splitlines() if row.startswith("| `")}
    assert rows["index.search"].endswith("| how it searches |")
    assert not [name for name, row in rows.items() if row.endswith("|  |")]
    assert field_comments()["policy.baseline.period_cycles"]


@pytest.mark.parametrize(
    "row",
    [
        "| `index.top_k` | `3` | whole number from 1 | ",
        "| `embed.query_prefix` | empty | text | ",
        "| `gate.general` | `false` | `true`, `false` | ",
        "| `finetune.max_minutes` | `null` | number above 0, or `null` | ",
        "| `gate.suites` | `{}` | names, each: number from 0 up to 1 | ",
        "| `services.allowed_hosts` | `[]` | list, each: text of the form ",
        "| `policy.baseline.period_cycles` | `2` | whole number from 1 | ",
    ],
)
def test_a_setting_is_described_with_default_and_limits(row: str) -> None:
    assert f"\n{row}" in params_page()


def test_defaults_are_those_of_the_file() -> None:
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    assert f"| `score.target` | `{content['score']['target']}` |" in params_page()


def test_the_page_of_commands_has_a_section_for_each_and_for_those_within_a_group() -> None:
    page, names = commands_page(), [entry.words for entry in every_command()]
    assert {"plan", "run", "hooks install"} <= {*names}
    assert not [name for name in names if f"\n### ragtide {name}\n" not in page]


def test_every_command_stands_below_its_panel() -> None:
    panels = {name: panel.title for panel in PANELS for name in panel.commands}
    assert not [entry.words for entry in every_command() if panels[entry.words.split()[0]] != entry.panel]
