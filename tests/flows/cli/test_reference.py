"""Is the reference what the code says, and is every setting and every command in it?"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ragtide.flows.cli.reference import (
    FOLDER,
    commands_page,
    every_command,
    params_page,
    read_comments,
    reference_pages,
)
from ragtide.pipelines.params import Params

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", ["params.md", "commands.md"])
def test_a_page_is_what_the_code_says(name: str) -> None:
    kept = (FOLDER / name).read_text(encoding="utf-8")
    assert kept == reference_pages()[name], f"docs/reference/{name} is old: `make reference` makes it anew"


def test_every_setting_is_explained_where_it_is_set() -> None:
    said = read_comments((ROOT / "params.yaml").read_text(encoding="utf-8"))
    assert not [key for key, comment in said.items() if not comment]


def test_a_setting_in_a_block_within_a_block_has_its_full_name() -> None:
    said = read_comments("a:  # one\n  b:  # two\n    c: 1  # three\n  d: 2\n# a line\ne:\n")
    assert said == {"a": "one", "a.b": "two", "a.b.c": "three", "a.d": "", "e": ""}


def test_the_page_of_settings_has_a_row_for_each() -> None:
    page = params_page()
    told = read_comments((ROOT / "params.yaml").read_text(encoding="utf-8"))
    blocks = {*Params.model_fields, "policy.baseline"}
    assert len(told) > 80
    assert not [key for key in told if f"| `{key}` |" not in page and key not in blocks]


@pytest.mark.parametrize(
    "row",
    [
        "| `index.top_k` | `3` | whole number from 1 | chunks that are put before the model |",
        "| `embed.query_prefix` | empty | text | the same for questions |",
        "| `gate.general` | `false` | `true`, `false` | true: plain instructions are a skill too; for larger models",
        "| `finetune.max_minutes` | `null` | number above 0, or `null` | training ends after so long",
        "| `gate.skills` | `{}` | names, each: number from 0 up to 1 | what else a skill may lose",
        "| `services.allowed_hosts` | `[]` | list, each: text | names under which",
        "| `policy.baseline.period_cycles` | `2` | whole number from 1 | periodic |",
    ],
)
def test_a_setting_is_told_with_default_limits_and_meaning(row: str) -> None:
    assert row in params_page()


def test_defaults_are_those_of_the_file() -> None:
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    assert f"| `score.target` | `{content['score']['target']}` |" in params_page()


def test_the_page_of_commands_has_a_section_for_each_and_those_within_a_group() -> None:
    known = [one.words for one in every_command()]
    assert {"plan", "run", "hooks install"} <= {*known}
    assert not [words for words in known if f"\n### ragtide {words}\n" not in commands_page()]


def test_every_command_stands_under_a_topic() -> None:
    assert not [one.words for one in every_command() if not isinstance(one.topic, str)]
