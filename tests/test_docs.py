"""Tests of the documentation: links, commands, settings, exit codes, metrics and examples are those of the code."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from ragtide.flows.cli.reference import every_command, read_comments
from ragtide.pipelines.params import NotificationKind, Params, PolicyParams

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "bench").glob("*.md"), *ROOT.glob("examples/*/*.md"), *DOCS.rglob("*.md")])
# Decisions, the log and the changelog also name what existed when they were written.
GUIDES = [page for page in PAGES if "decisions" not in page.parts and page.name not in ("log.md", "CHANGELOG.md")]
WRITTEN_BY_HAND = [page for page in PAGES if "reference" not in page.parts and "bench" not in page.parts]
BLOCKS = set(Params.model_fields)
FILES = (".py", ".json", ".yaml", ".md", ".lance")
COMMAND = re.compile(r"^(?:\$ )?ragtide (?=[a-z-])")
KEY = re.compile(r"^([a-z_]+)\.([a-z_.]+)(?:[:=].*)?$")
COMMON_OPTIONS = {"--help", "-h", "--quiet", "-q", "--verbose", "-v", "--json"}
SOURCES = [*ROOT.glob("flows/**/*.py"), *ROOT.glob("pipelines/**/*.py"), *ROOT.glob("*.yaml"), ROOT / "pyproject.toml"]
INVARIANTS = {
    "incremental-equals-rebuild",
    "durable-before-done",
    "only-changes-embedded",
    "whole-release-reads",
    "pointer-rollback",
    "deleted-is-gone",
    "plan-is-what-happens",
    "no-mass-deletion",
    "embedder-in-index",
    "single-writer",
    "bad-document-isolated",
    "lost-answers-isolated",
    "parts-proven-apart",
    "values-are-data",
    "facts-are-due",
    "cost-follows-change",
    "graded-evidence",
}
# Words of no standard: docs/glossary.md has the terms.
BANNED = re.compile(
    r"\b(anew|nought|mend(s|ed)?|upkeep|the world has moved|let be|set aside|lessons?|pupil|canar(y|ies)|foretell|"
    r"near miss(es)?|right passage|brought up|review desk)\b",
    re.IGNORECASE,
)


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


each_page = pytest.mark.parametrize("page", PAGES, ids=page_id)
each_guide = pytest.mark.parametrize("page", GUIDES, ids=page_id)


@dataclass(frozen=True)
class Link:
    """The target of a link or a picture: a file, and a heading in it."""

    file: Path
    anchor: str


@cache
def tokens(page: Path) -> tuple[Token, ...]:
    """The blocks of a page, and after each block of running text what it consists of."""
    blocks = MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))
    return tuple(token for block in blocks for token in (block, *(block.children or ())))


def links(page: Path) -> Iterator[Link]:
    for token in tokens(page):
        target = str(token.attrs.get("href") or token.attrs.get("src") or "")
        if target and "://" not in target and not target.startswith("mailto:"):
            path, _, anchor = target.partition("#")
            yield Link((page.parent / path).resolve() if path else page, anchor)


@cache
def anchors(page: Path) -> set[str]:
    """The names by which GitHub lets a heading be linked to."""
    blocks = tokens(page)
    headings = [blocks[at + 1].content for at, block in enumerate(blocks) if block.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def code_lines(page: Path) -> Iterator[str]:
    """Every line of a code block, and every inline code."""
    for token in tokens(page):
        if token.type in ("fence", "code_block"):
            yield from token.content.splitlines()
        elif token.type == "code_inline":
            yield token.content


def command_lines(page: Path) -> Iterator[str]:
    yield from (line.strip() for line in code_lines(page) if COMMAND.match(line.strip()))


@cache
def commands_by_words() -> dict[str, Any]:
    return {entry.words: entry.command for entry in every_command()}


def error_in(line: str) -> str | None:
    """What `ragtide` would not accept of a command line; None where it would. Placeholders are permitted."""
    words = shlex.split(re.split(r" [|>&;]", COMMAND.sub("", line))[0].replace("[", "").replace("]", ""), comments=True)
    known = commands_by_words()
    command = known.get(words[0]) or known.get(" ".join(words[:2]))
    if command is None:
        return f"no command {words[0]!r}"
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    unknown = [
        word for word in words[1:] if word.startswith("-") and word.split("=")[0] not in options | COMMON_OPTIONS
    ]
    return f"{words[0]} has no option {unknown[0]}" if unknown else None


def settings(page: Path) -> Iterator[str]:
    """The keys of params.yaml that inline code names."""
    for line in code_lines(page):
        match = KEY.match(line.strip())
        if match and match[1] in BLOCKS and not line.strip().endswith(FILES):
            yield f"{match[1]}.{match[2]}"


def all_settings() -> set[str]:
    """Every setting by its full name, whether params.yaml ships with it or not."""
    schema = Params.model_json_schema()

    def names(prefix: str, definition: dict[str, Any]) -> Iterator[str]:
        for name, key in definition["properties"].items():
            reference = key.get("$ref")
            if reference:
                yield from names(f"{prefix}{name}.", schema["$defs"][reference.rpartition("/")[2]])
            else:
                yield f"{prefix}{name}"

    return set(names("", schema))


def exit_codes() -> set[int]:
    """The codes with which commands end: numbers in typer.Exit(...), also by way of a named constant."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "flows").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    constants = {
        ast.unparse(target): node.value.value
        for node in nodes
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, int)
        for target in node.targets
    }
    calls = [node for node in nodes if isinstance(node, ast.Call) and node.args]
    ends = [ast.unparse(call.args[0]) for call in calls if ast.unparse(call.func) == "typer.Exit"]
    codes = {constants.get(end.rpartition(".")[2], end) for end in ends}
    return {int(code) for code in codes if str(code).isdigit()}


def metrics() -> set[str]:
    """The names of the Prometheus metrics that the code states as a literal."""
    text = (ROOT / "flows" / "prefect_server" / "metrics.py").read_text(encoding="utf-8")
    full_names = re.findall(r'(?:Gauge|Counter)\(\s*"(ragtide_\w+)"', text)
    return {*full_names, *(f"ragtide_{name}" for name in re.findall(r'gauge\(\s*metrics,\s*"(\w+)"', text))}


@each_page
def test_each_link_has_a_target(page: Path) -> None:
    broken = [link for link in links(page) if not link.file.exists()]
    broken += [
        link
        for link in links(page)
        if link.anchor and link.file.suffix == ".md" and link not in broken and link.anchor not in anchors(link.file)
    ]
    assert not broken


@each_guide
def test_each_command_line_is_accepted(page: Path) -> None:
    assert not [(line, error) for line in command_lines(page) if (error := error_in(line))]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("ragtide plan", None),
        ("ragtide run --plan DIGEST", None),
        ("$ ragtide diff [OLD [NEW]]   # two snapshots", None),
        ("ragtide status | head", None),
        ("ragtide plann", "no command 'plann'"),
        ("ragtide run --plann=3", "run has no option --plann=3"),
    ],
)
def test_a_wrong_command_line_is_detected(line: str, error: str | None) -> None:
    assert error_in(line) == error


@each_guide
def test_each_setting_exists(page: Path) -> None:
    known = all_settings()
    assert not [key for key in settings(page) if key not in known]


def test_each_setting_of_params_yaml_exists() -> None:
    shipped = read_comments((ROOT / "params.yaml").read_text(encoding="utf-8"))
    known = all_settings()
    assert not [key for key in shipped if key not in known and not any(name.startswith(f"{key}.") for name in known)]


@each_guide
def test_each_block_of_params_is_valid(page: Path) -> None:
    for token in tokens(page):
        if token.type in ("fence", "code_block") and token.content.split(":")[0] in BLOCKS:
            assert Params.model_validate(yaml.safe_load(token.content))


def test_the_runbook_has_each_exit_code() -> None:
    section = (DOCS / "runbook.md").read_text(encoding="utf-8").partition("## Exit codes")[2].split("\n## ")[0]
    codes = exit_codes()
    assert {1, 3, 4, 5} <= codes
    assert not [code for code in codes if f"| {code} |" not in section]


def test_the_runbook_has_each_metric() -> None:
    text = (DOCS / "runbook.md").read_text(encoding="utf-8")
    known = metrics()
    assert len(known) > 5
    assert not [name for name in known if not re.search(rf"`{name}(_total)?`", text)]


def test_the_runbook_has_each_notification_kind() -> None:
    section = (DOCS / "runbook.md").read_text(encoding="utf-8").partition("## Notifications")[2].split("\n## ")[0]
    assert not [kind for kind in get_args(NotificationKind) if f"| `{kind}` |" not in section]


def test_the_index_links_each_page() -> None:
    index = DOCS / "README.md"
    linked = {link.file for link in links(index)}
    pages = {*DOCS.glob("*.md"), *(DOCS / "reference").glob("*.md")} - {index}
    assert not {page.name for page in pages - linked}


def test_each_invariant_is_documented_with_tests_that_exist() -> None:
    page = DOCS / "invariants.md"
    assert anchors(page) - {"invariants"} == INVARIANTS
    files = [line for line in code_lines(page) if line.startswith("tests/")]
    assert len(files) > 15
    assert not [file for file in files if not (ROOT / file).is_file()]


@pytest.mark.parametrize("source", SOURCES, ids=page_id)
def test_each_citation_in_the_code_exists(source: Path) -> None:
    """Decisions by number or file name, entries of docs/log.md by date, invariants by name."""
    text = source.read_text(encoding="utf-8")
    decisions = {path.stem[:4]: path.name for path in (DOCS / "decisions").glob("*.md")}
    for number, rest in re.findall(r"docs/decisions/(\d{4})([\w-]*(?:\.md)?)", text):
        assert number in decisions
        assert not rest or decisions[number] == number + rest
    dates = set(re.findall(r"^## (\d{4}-\d\d-\d\d)", (DOCS / "log.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"docs/log\.md, (\d{4}-\d\d-\d\d)", text)) <= dates
    assert set(re.findall(r"\binvariant ([a-z]+(?:-[a-z]+)+)", text)) <= INVARIANTS
    assert not [page for page in re.findall(r"\bdocs/[\w-]+\.md", text) if not (ROOT / page).is_file()]


@pytest.mark.parametrize("page", WRITTEN_BY_HAND, ids=page_id)
def test_pages_use_standard_terms(page: Path) -> None:
    assert not BANNED.findall(page.read_text(encoding="utf-8"))


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_the_example_of_a_policy_runs() -> None:
    from tests.factories import evidence, measure

    [example] = [token.content for token in tokens(DOCS / "your-own-policy.md") if token.info == "python"]
    names: dict[str, Any] = {}
    exec(compile(example, "your-own-policy.md", "exec"), names)

    from ragtide.pipelines.policy.weigh import weigh_components

    facts = evidence(stale_facts=measure(0.5))
    options = weigh_components(facts, PolicyParams())
    chosen = names["OnlyWhenStale"]().choose(facts, options, PolicyParams())
    assert chosen.refresh.wanted
    assert not chosen.retrain.wanted
    assert chosen.refresh.reasons[0].values["text"].startswith("50%")
