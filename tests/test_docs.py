"""Do the pages say what the code does? Their links, commands, settings, exit codes and metrics."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from ragtide.flows.cli.reference import every_command, read_comments
from ragtide.pipelines.params import Params

ROOT = Path(__file__).parent.parent
EVERY_PAGE = sorted([*ROOT.glob("*.md"), *(ROOT / "bench").glob("*.md"), *(ROOT / "docs").rglob("*.md")])
# What was once tried and decided is left as it was said then.
GUIDES = [one for one in EVERY_PAGE if "decisions" not in one.parts and one.name not in ("log.md", "CHANGELOG.md")]
BLOCKS = set(Params.model_fields)
FILES = (".py", ".json", ".yaml", ".md", ".lance")
COMMAND = re.compile(r"^(?:\$ )?ragtide (?=[a-z-])")
KEY = re.compile(r"^([a-z]+)\.([a-z_.]+)(?:[:=].*)?$")

every_page = pytest.mark.parametrize("page", EVERY_PAGE, ids=lambda page: str(page.relative_to(ROOT)))
every_guide = pytest.mark.parametrize("page", GUIDES, ids=lambda page: str(page.relative_to(ROOT)))


@dataclass(frozen=True)
class Link:
    """Where a link or a picture points to: a file, and a heading in it."""

    file: Path
    anchor: str


@cache
def tokens(page: Path) -> tuple[Token, ...]:
    """A page's blocks, and after each of running text what stands in it."""
    blocks = MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))
    return tuple(one for block in blocks for one in (block, *(block.children or ())))


def links(page: Path) -> Iterator[Link]:
    for one in tokens(page):
        target = str(one.attrs.get("href") or one.attrs.get("src") or "")
        if target and "://" not in target and not target.startswith("mailto:"):
            path, _, anchor = target.partition("#")
            yield Link((page.parent / path).resolve() if path else page, anchor)


@cache
def anchors(page: Path) -> set[str]:
    """The names by which GitHub lets a heading be linked to."""
    blocks = tokens(page)
    heads = [blocks[at + 1].content for at, one in enumerate(blocks) if one.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def code_lines(page: Path) -> Iterator[str]:
    """Every line of a block of code, and every piece of code in running text."""
    for one in tokens(page):
        if one.type in ("fence", "code_block"):
            yield from one.content.splitlines()
        elif one.type == "code_inline":
            yield one.content


def commands(page: Path) -> Iterator[str]:
    yield from (line.strip() for line in code_lines(page) if COMMAND.match(line.strip()))


@cache
def by_words() -> dict[str, Any]:
    return {typed.words: typed.command for typed in every_command()}


def wrong_with(line: str) -> str | None:
    """What no `ragtide` would understand of a line; None where it would. Places to be filled in may stand in it."""
    words = shlex.split(re.split(r" [|>&;]", COMMAND.sub("", line))[0].replace("[", "").replace("]", ""), comments=True)
    known = by_words()
    command = known.get(words[0]) or known.get(" ".join(words[:2]))
    if command is None:
        return f"no command {words[0]!r}"
    options = {name for one in command.params for name in (*one.opts, *one.secondary_opts)} | {"--help"}
    if unknown := [word for word in words[1:] if word.startswith("-") and word.split("=")[0] not in options]:
        return f"{words[0]} knows no {unknown[0]}"
    return None


def settings(page: Path) -> Iterator[str]:
    """The keys of params.yaml that running text names."""
    for line in code_lines(page):
        found = KEY.match(line.strip())
        if found and found[1] in BLOCKS and not line.strip().endswith(FILES):
            yield f"{found[1]}.{found[2]}"


def exit_codes() -> set[int]:
    """The codes with which commands end, as they stand in the code."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "flows").rglob("*.py")]
    ends = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
    ends = [node for node in ends if ast.unparse(node.func) == "typer.Exit"]
    return {int(ast.unparse(node.args[0])) for node in ends if isinstance(node.args[0], ast.Constant)}


def metrics() -> set[str]:
    """The names under which Prometheus reads numbers, where the code has them in one piece."""
    text = (ROOT / "flows" / "metrics.py").read_text(encoding="utf-8")
    whole = re.findall(r'(?:Gauge|Counter)\("(ragtide_\w+)"', text)
    return {*whole, *(f"ragtide_{name}" for name in re.findall(r'_gauge\(metrics, "(\w+)"', text))}


@every_page
def test_every_link_leads_somewhere(page: Path) -> None:
    lost = [link for link in links(page) if not link.file.exists()]
    lost += [
        link
        for link in links(page)
        if link.anchor and link.file.suffix == ".md" and link not in lost and link.anchor not in anchors(link.file)
    ]
    assert not lost


@every_guide
def test_every_command_line_is_one(page: Path) -> None:
    assert not [(line, wrong) for line in commands(page) if (wrong := wrong_with(line))]


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("ragtide plan", None),
        ("ragtide run --plan DIGEST", None),
        ("$ ragtide diff [OLD [NEW]]   # two snapshots", None),
        ("ragtide status | head", None),
        ("ragtide plann", "no command 'plann'"),
        ("ragtide run --plann=3", "run knows no --plann=3"),
    ],
)
def test_a_command_line_that_nobody_would_understand_is_told(line: str, wrong: str | None) -> None:
    assert wrong_with(line) == wrong


@every_guide
def test_every_setting_that_is_named_is_there(page: Path) -> None:
    known = {*read_comments((ROOT / "params.yaml").read_text(encoding="utf-8"))}
    assert not [key for key in settings(page) if key not in known]


@every_guide
def test_every_piece_of_params_is_valid(page: Path) -> None:
    for one in tokens(page):
        if one.type in ("fence", "code_block") and one.content.split(":")[0] in BLOCKS:
            assert Params.model_validate(yaml.safe_load(one.content))


def test_the_runbook_names_every_exit_code() -> None:
    told = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8").partition("## Exit codes")[2].split("\n## ")[0]
    codes = exit_codes()
    assert {1, 3, 4, 5} <= codes
    assert not [code for code in codes if f"| {code} |" not in told]


def test_the_runbook_names_every_metric() -> None:
    told = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    known = metrics()
    assert len(known) > 5
    assert not [name for name in known if not re.search(rf"`{name}(_total)?`", told)]


def test_the_index_names_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    told = {link.file for link in links(index)}
    here = {*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "reference").glob("*.md")} - {index}
    assert not {one.name for one in here - told}
