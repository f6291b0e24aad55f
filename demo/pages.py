"""What does a quarter look like? Facts rendered into pages in our own words, with questions and examples from them.

python -m demo.pages FOLDER --quarter 1
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Literal
from zlib import crc32

FACTS = Path(__file__).parent / "facts.csv"
AnswerFormat = Literal["plain", "json"]
Row = dict[str, object]
JSON_ANSWER = r'\{"value": "[^"]+"\}'
GOLDEN_PRODUCTS = 24
GOLDEN_QUESTIONS = 60
EXAMPLES = 80
INTRODUCTIONS = (
    "This page keeps track of how long each release line of {name} is looked after.",
    "Support dates of {name}, one section a release line, newest first.",
    "Which {name} should one run? The release lines and their support are below.",
    "Our notes on {name}: when a line came out, how long it is maintained, and what is newest in it.",
)


@dataclass(frozen=True)
class Fact:
    """What was known of one release line of a product at the beginning of a quarter; "" where it was not known."""

    as_of: str
    product: str
    name: str
    cycle: str
    released: str
    eol: str
    latest: str

    @property
    def line(self) -> str:
        return f"{self.name} {self.cycle}"

    @property
    def page(self) -> str:
        return f"{self.product[0]}/{self.product}.md"


@dataclass(frozen=True)
class Asked:
    """A question about a fact, with its answer as of the fact's quarter."""

    id: str
    question: str
    answer: str
    fact: Fact


@cache
def read_facts() -> tuple[Fact, ...]:
    """Every fact of every quarter."""
    with FACTS.open(encoding="utf-8", newline="") as file:
        return tuple(Fact(**row) for row in csv.DictReader(file))


def quarters() -> tuple[str, ...]:
    """The beginnings of the quarters, in order."""
    return tuple(sorted({fact.as_of for fact in read_facts()}))


def render_pages(quarter: str) -> dict[str, str]:
    """Path -> Markdown, one page a product."""
    pages: dict[str, list[Fact]] = {}
    for fact in _facts(quarter):
        pages.setdefault(fact.page, []).append(fact)
    return {path: _render(facts) for path, facts in sorted(pages.items())}


@cache
def golden_products() -> tuple[str, ...]:
    """The products that are asked about."""
    return tuple(sorted(_lasting_products()[:GOLDEN_PRODUCTS]))


@cache
def training_products() -> tuple[str, ...]:
    """The products that are taught: none that is asked about, so that no answer can have been learnt by heart."""
    return tuple(sorted(_lasting_products()[GOLDEN_PRODUCTS:]))


def golden_rows(quarter: str, answer_format: AnswerFormat = "plain") -> list[Row]:
    """The same questions every quarter, with the answers of that quarter."""
    asked = {one.id: one for one in _asked(quarter)}
    rows: list[Row] = []
    for key in _golden_ids():
        one = asked[key]
        row: Row = {"id": key, "question": one.question, "answers": [one.answer], "docs": [one.fact.page]}
        rows.append(row | ({"format": JSON_ANSWER} if answer_format == "json" else {}))
    return rows


def training_rows(quarter: str, answer_format: AnswerFormat = "plain") -> list[Row]:
    """Questions about the training products, as many of each as there is room for, answered as one should answer."""
    drawn = sorted(_asked(quarter), key=lambda one: _draw(one.id))
    rounds = zip_longest(*([one for one in drawn if one.fact.product == name] for name in training_products()))
    taught = [one for each in rounds for one in each if one][:EXAMPLES]
    rows: list[Row] = []
    for one in taught:
        completion = _completion(one.answer, answer_format)
        rows.append({"id": one.id, "prompt": one.question, "completion": completion, "doc": one.fact.page})
    return rows


def main() -> None:
    """Lay a quarter into a project, for docs/quickstart.md."""
    parser = argparse.ArgumentParser(description="Lays a quarter of the demo's data into a project.")
    parser.add_argument("project", type=Path, help="a folder that `ragtide init` has made")
    parser.add_argument("--quarter", type=int, choices=range(1, len(quarters()) + 1), default=1)
    asked = parser.parse_args()
    if not (asked.project / "params.yaml").is_file():
        parser.error(f"{asked.project} is no project: `ragtide init {asked.project}` makes one")
    write_quarter(asked.project, quarters()[asked.quarter - 1])


def write_quarter(project: Path, quarter: str, answer_format: AnswerFormat = "plain") -> None:
    """Lay the whole quarter into the project: pages, golden questions and examples."""
    write_pages(project / "data/kb", quarter)
    write_golden(project, quarter, answer_format)
    write_training(project, quarter, answer_format)


def write_golden(project: Path, quarter: str, answer_format: AnswerFormat = "plain") -> None:
    """Lay the golden questions of `quarter` into the project."""
    write_rows(project / "data/golden/questions.jsonl", golden_rows(quarter, answer_format))


def write_training(project: Path, quarter: str, answer_format: AnswerFormat = "plain") -> None:
    """Lay the examples of `quarter` into the project."""
    write_rows(project / "data/train/examples.jsonl", training_rows(quarter, answer_format))


def write_pages(folder: Path, quarter: str) -> None:
    """Make `folder`, which is for pages alone, hold those of `quarter`: every other Markdown file in it is removed."""
    pages = render_pages(quarter)
    for path in folder.rglob("*.md"):
        if path.relative_to(folder).as_posix() not in pages:
            path.unlink()
    for name, text in pages.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """One JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _facts(quarter: str) -> list[Fact]:
    return [fact for fact in read_facts() if fact.as_of == quarter]


def _render(facts: list[Fact]) -> str:
    name = facts[0].name
    introduction = INTRODUCTIONS[_draw(name) % len(INTRODUCTIONS)].format(name=name)
    return f"# {name}\n\n{introduction}\n\n" + "\n".join(_section(fact) for fact in facts)


def _section(fact: Fact) -> str:
    bullets = {"First released": fact.released, "End of life": fact.eol, "Latest release": fact.latest}
    return f"## {fact.line}\n\n" + "".join(f"- {label}: {value}\n" for label, value in bullets.items() if value)


def _asked(quarter: str) -> list[Asked]:
    found: list[Asked] = []
    for fact in _facts(quarter):
        key = f"{fact.product}-{fact.cycle}"
        if fact.eol:
            question = f"When does {fact.line} reach end of life?"
            found.append(Asked(f"{key}-eol", question, fact.eol, fact))
        # A latest release called like its line would stand in the question already.
        if fact.latest not in ("", fact.cycle):
            question = f"What is the latest release of {fact.line}?"
            found.append(Asked(f"{key}-latest", question, fact.latest, fact))
    return found


def _completion(answer: str, answer_format: AnswerFormat) -> str:
    return json.dumps({"value": answer}) if answer_format == "json" else answer


@cache
def _golden_ids() -> tuple[str, ...]:
    """Of what can be asked in every quarter: half moves at the first step, and half never does."""
    answers: dict[str, list[str]] = {}
    for quarter in quarters():
        for one in _asked(quarter):
            if one.fact.product in golden_products():
                answers.setdefault(one.id, []).append(one.answer)
    known = {key: values for key, values in answers.items() if len(values) == len(quarters())}
    moving = [key for key, values in known.items() if key.endswith("-latest") and values[0] != values[1]]
    still = [key for key, values in known.items() if len(set(values)) == 1]
    half = GOLDEN_QUESTIONS // 2
    return tuple(sorted([*sorted(moving, key=_draw)[:half], *sorted(still, key=_draw)[:half]]))


@cache
def _lasting_products() -> tuple[str, ...]:
    """Those with a page in every quarter, in drawing order."""
    lasting = set.intersection(*({fact.product for fact in _facts(quarter)} for quarter in quarters()))
    return tuple(sorted(lasting, key=_draw))


def _draw(key: str) -> int:
    """A place in line that looks like chance and is the same on every machine."""
    return crc32(key.encode())


if __name__ == "__main__":
    main()
