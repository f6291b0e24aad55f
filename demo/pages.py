"""Data of the demo: pages rendered from the facts of a quarter, with golden questions and training examples.

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
    """The known values of a product's release line at the beginning of a quarter; "" where a value was unknown."""

    as_of: str
    product: str
    name: str
    cycle: str
    released: str
    eol: str
    latest: str

    @property
    def line(self) -> str:
        """Name of the release line, such as "Node.js 22"."""
        return f"{self.name} {self.cycle}"

    @property
    def page(self) -> str:
        """Path of the product's page below the knowledge base."""
        return f"{self.product[0]}/{self.product}.md"


@dataclass(frozen=True)
class FactQuestion:
    """A question about a fact, with its answer as of the fact's quarter."""

    id: str
    question: str
    answer: str
    fact: Fact


@cache
def read_facts() -> tuple[Fact, ...]:
    """Read the facts of all quarters."""
    with FACTS.open(encoding="utf-8", newline="") as file:
        return tuple(Fact(**row) for row in csv.DictReader(file))


def quarters() -> tuple[str, ...]:
    """Return the first days of the quarters (ISO 8601), in order."""
    return tuple(sorted({fact.as_of for fact in read_facts()}))


def render_pages(quarter: str) -> dict[str, str]:
    """Return the Markdown of one page per product, by path."""
    pages: dict[str, list[Fact]] = {}
    for fact in _facts(quarter):
        pages.setdefault(fact.page, []).append(fact)
    return {path: _render(facts) for path, facts in sorted(pages.items())}


@cache
def golden_products() -> tuple[str, ...]:
    """Return the products of the golden questions."""
    return tuple(sorted(_lasting_products()[:GOLDEN_PRODUCTS]))


@cache
def training_products() -> tuple[str, ...]:
    """Return the products of the training examples; none has golden questions, so that no answer is memorised."""
    return tuple(sorted(_lasting_products()[GOLDEN_PRODUCTS:]))


def golden_rows(quarter: str, answer_format: AnswerFormat = "plain") -> list[Row]:
    """Return the golden questions with the answers of the quarter; the questions are the same in every quarter."""
    by_id = {question.id: question for question in _questions(quarter)}
    rows: list[Row] = []
    for key in _golden_ids():
        golden = by_id[key]
        row: Row = {"id": key, "question": golden.question, "answers": [golden.answer], "docs": [golden.fact.page]}
        rows.append(row | ({"format": JSON_ANSWER} if answer_format == "json" else {}))
    return rows


def training_rows(quarter: str, answer_format: AnswerFormat = "plain") -> list[Row]:
    """Return the training examples of the quarter, spread evenly over the training products."""
    drawn = sorted(_questions(quarter), key=lambda question: _draw(question.id))
    by_product = [[question for question in drawn if question.fact.product == name] for name in training_products()]
    interleaved = [question for group in zip_longest(*by_product) for question in group if question]
    return [
        {
            "id": question.id,
            "prompt": question.question,
            "completion": _completion(question.answer, answer_format),
            "doc": question.fact.page,
        }
        for question in interleaved[:EXAMPLES]
    ]


def main() -> None:
    """Write a quarter's data into a project, for docs/quickstart.md."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.pages", description="Writes a quarter of the demo's data into a project."
    )
    parser.add_argument("project", type=Path, help="project folder, created by `ragtide init`")
    parser.add_argument(
        "--quarter",
        type=int,
        choices=range(1, len(quarters()) + 1),
        default=1,
        help="number of the quarter (default: 1)",
    )
    options = parser.parse_args()
    if not (options.project / "params.yaml").is_file():
        parser.error(f"{options.project} is not a project: create one with `ragtide init {options.project}`")
    write_quarter(options.project, quarters()[options.quarter - 1])


def write_quarter(project: Path, quarter: str, answer_format: AnswerFormat = "plain") -> None:
    """Write pages, golden questions and training examples of `quarter` into the project."""
    write_pages(project / "data/kb", quarter)
    write_golden(project, quarter, answer_format)
    write_training(project, quarter, answer_format)


def write_golden(project: Path, quarter: str, answer_format: AnswerFormat = "plain") -> None:
    """Write the golden questions of `quarter` into the project."""
    write_rows(project / "data/golden/questions.jsonl", golden_rows(quarter, answer_format))


def write_training(project: Path, quarter: str, answer_format: AnswerFormat = "plain") -> None:
    """Write the training examples of `quarter` into the project."""
    write_rows(project / "data/train/examples.jsonl", training_rows(quarter, answer_format))


def write_pages(folder: Path, quarter: str) -> None:
    """Write the pages of `quarter` into `folder`, and delete every other Markdown file in it."""
    pages = render_pages(quarter)
    for path in folder.rglob("*.md"):
        if path.relative_to(folder).as_posix() not in pages:
            path.unlink()
    for name, text in pages.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write one JSON object per line."""
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


def _questions(quarter: str) -> list[FactQuestion]:
    questions: list[FactQuestion] = []
    for fact in _facts(quarter):
        key = f"{fact.product}-{fact.cycle}"
        if fact.eol:
            question = f"When does {fact.line} reach end of life?"
            questions.append(FactQuestion(f"{key}-eol", question, fact.eol, fact))
        # If the latest release has the name of its line, the question already contains the answer.
        if fact.latest not in ("", fact.cycle):
            question = f"What is the latest release of {fact.line}?"
            questions.append(FactQuestion(f"{key}-latest", question, fact.latest, fact))
    return questions


def _completion(answer: str, answer_format: AnswerFormat) -> str:
    return json.dumps({"value": answer}) if answer_format == "json" else answer


@cache
def _golden_ids() -> tuple[str, ...]:
    """Draw the questions that can be asked in every quarter: half change at the first step, half never change."""
    answers: dict[str, list[str]] = {}
    for quarter in quarters():
        for question in _questions(quarter):
            if question.fact.product in golden_products():
                answers.setdefault(question.id, []).append(question.answer)
    known = {key: values for key, values in answers.items() if len(values) == len(quarters())}
    changing = [key for key, values in known.items() if key.endswith("-latest") and values[0] != values[1]]
    unchanging = [key for key, values in known.items() if len(set(values)) == 1]
    count = GOLDEN_QUESTIONS // 2
    return tuple(sorted([*sorted(changing, key=_draw)[:count], *sorted(unchanging, key=_draw)[:count]]))


@cache
def _lasting_products() -> tuple[str, ...]:
    """Return the products with a page in every quarter, in drawing order."""
    lasting = set.intersection(*({fact.product for fact in _facts(quarter)} for quarter in quarters()))
    return tuple(sorted(lasting, key=_draw))


def _draw(key: str) -> int:
    """Return a pseudo-random sort key that is the same on every machine."""
    return crc32(key.encode())


if __name__ == "__main__":
    main()
