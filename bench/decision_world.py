"""Small world of the decision scenarios: pages with one fact each, golden questions, examples, and the real loop.

DVC, LanceDB, MLflow and Prefect are the real ones; the embedder, the model and its training are the tests' fakes, since
the models are not what the scenarios are about.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from ragtide.flows.cli.main import app
from ragtide.pipelines.records.decision import Plan
from ragtide.pipelines.records.release import Cycle
from tests.conftest import write_project
from tests.factories import write
from tests.flows.cycle_project import NEW, OLD, QUESTION, CycleProject

__all__ = ["NEW", "OLD", "QUESTION", "World"]
# Words of the sentences that a page has besides its fact, and how many: pages of a knowledge base are not alike.
SYLLABLES, WORDS = ("ba", "de", "fo", "gu", "li", "mo", "ne", "pa", "ru", "so", "ti", "va"), 24


@dataclass
class World(CycleProject):
    """A project of `NAME.md` pages; the fake model reads a page's date where it was trained to."""

    @classmethod
    def create(cls, root: Path, pages: Sequence[str], asked: Sequence[str], taught: Sequence[str] = ()) -> World:
        """Write the pages, a golden question about each of `asked`, and an example about each of `taught`."""
        world = cls(write_project(root))
        for name in pages:
            world.write_page(name)
        world.write_golden(asked)
        world.write_examples(taught)
        return world

    def write_page(self, name: str, date: str = OLD, folder: str = "", front: str = "", care: int = 0) -> None:
        words = random.Random(name)
        invented = ["".join(words.choices(SYLLABLES, k=3)) for _ in range(WORDS)]
        text = f"{name} needs {' '.join(invented[:12])}. It lacks {' '.join(invented[12:])}."
        text += f" It was looked after {care} times." if care else ""
        fact = f"# {name}\n\n## {name} 1\n\n- End of life: {date}\n"
        write(self.root / f"data/kb/{folder}{name}.md", f"{front}{fact}\n## Care of {name}\n\n{text}\n")

    def write_golden(self, names: Iterable[str], folder: str = "", answers: Mapping[str, str] | None = None) -> None:
        rows = [
            {
                "question": QUESTION.format(name),
                "answers": [(answers or {}).get(name, OLD)],
                "docs": [f"{folder}{name}.md"],
            }
            for name in names
        ]
        self.write_lines("golden/q.jsonl", rows)

    def write_examples(self, names: Iterable[str], folder: str = "", file: str = "t.jsonl") -> None:
        rows = [{"prompt": QUESTION.format(name), "completion": OLD, "doc": f"{folder}{name}.md"} for name in names]
        self.write_lines(f"train/{file}", rows)

    def write_lines(self, path: str, rows: Sequence[Mapping[str, object]]) -> None:
        write(self.root / "data" / path, "".join(json.dumps(row) + "\n" for row in rows))

    def command(self, *words: str) -> tuple[int, Any]:
        """The exit code of a command and its JSON."""
        ended = CliRunner().invoke(app, [*words, "--json", "-p", str(self.root)])
        return ended.exit_code, json.loads(ended.stdout) if ended.stdout.startswith("{") else ended.output

    def text(self, *words: str) -> str:
        """What a command prints, in one line."""
        return " ".join(CliRunner().invoke(app, [*words, "-p", str(self.root)]).output.split())

    def freshness_code(self) -> int:
        """The exit code of `ragtide status --check`."""
        return CliRunner().invoke(app, ["status", "--check", "-p", str(self.root)]).exit_code

    def plan_of(self, cycle: Cycle) -> Plan:
        from ragtide.pipelines.planning.plan import read_plan

        return read_plan(self.project, cycle.plan)

    def live_rows(self) -> dict[str, int]:
        """Document -> number of its rows in the live index."""
        rows: dict[str, int] = {}
        for document, _ in self.project.index.rows(self.live.index_tag):
            rows[document] = rows.get(document, 0) + 1
        return rows
