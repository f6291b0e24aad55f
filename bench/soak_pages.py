"""Pages of the soak benchmark: random changes, and editions that are named in every section."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import md5
from pathlib import Path

from demo.pages import Fact, read_facts
from ragtide.pipelines.records.release import Release

PAGES = 60
CHANGES = ("edit", "edit", "edit", "add", "rename", "delete")
EDITION = re.compile(r"edition (\d+) of page (\d+)\b")


@dataclass
class Pages:
    """The expected contents of the folder: name -> (page, edition); a page's digest identifies its edition."""

    folder: Path
    facts: dict[int, list[Fact]]
    draw: random.Random
    expected: dict[str, tuple[int, int]] = field(default_factory=dict)
    changes: int = 0

    @property
    def editions(self) -> Path:
        """The folder of files named by a page's digest that hold its page and edition, for the reader process."""
        return self.folder.parents[2] / "editions"

    def begin(self) -> None:
        """Write the first edition of every page."""
        self.editions.mkdir(parents=True)
        for page in range(PAGES):
            self._write(f"page-{page:03d}.md", page, 0)

    def change(self) -> None:
        """Make one random change; the first page never changes, since the golden question is about it."""
        self.changes += 1
        names = sorted(name for name, (page, _) in self.expected.items() if page)
        kind, name = self.draw.choice(CHANGES), self.draw.choice(names)
        page, edition = self.expected[name]
        if kind == "edit" or len(names) < PAGES // 2:
            self._write(name, page, self.changes)
        elif kind == "add":
            self._write(f"new-{self.changes}.md", self.draw.randrange(1, PAGES), self.changes)
        else:
            del self.expected[name]
            if kind == "rename":
                moved = f"moved-{self.changes}.md"
                (self.folder / name).rename(self.folder / moved)
                self.expected[moved] = page, edition
            else:
                (self.folder / name).unlink()

    def _write(self, name: str, page: int, edition: int) -> None:
        text = page_text(self.facts[page % len(self.facts)], page, edition)
        digest = md5(text.encode(), usedforsecurity=False).hexdigest()
        (self.editions / digest).write_text(f"{page} {edition}", encoding="utf-8")
        unfinished = self.folder.parents[2] / "unfinished"
        unfinished.write_text(text, encoding="utf-8")
        self.folder.mkdir(parents=True, exist_ok=True)
        unfinished.replace(self.folder / name)
        self.expected[name] = page, edition

    def count_outdated(self, live: Release | None) -> int:
        """Count the pages whose last state is not live, and the deleted pages that still are."""
        documents = live.snapshot.documents if live else {}
        missing = sum(self._edition(documents.get(name)) != edition for name, edition in self.expected.items())
        return missing + len(set(documents) - set(self.expected))

    def _edition(self, digest: str | None) -> tuple[int, int] | None:
        return edition_of(self.editions, digest) if digest else None


def edition_of(editions: Path, digest: str) -> tuple[int, int]:
    page, edition = (editions / digest).read_text(encoding="utf-8").split()
    return int(page), int(edition)


def page_text(facts: Sequence[Fact], page: int, edition: int) -> str:
    """Return the text of a page of release lines; each section names the page's edition."""
    edition_line = f"This is edition {edition} of page {page}."
    lines = (
        f"## {fact.name} {fact.cycle} ({page})\n\n{edition_line}\n\n"
        f"- Released: {fact.released}\n- End of life: {fact.eol}\n"
        for fact in facts[:6]
    )
    return f"# {facts[0].name} ({page})\n\n{edition_line}\n\n" + "\n".join(lines)


def facts_by_page() -> dict[int, list[Fact]]:
    """Return the facts of the first quarter by numbered product."""
    first_quarter = min(fact.as_of for fact in read_facts())
    facts = [fact for fact in read_facts() if fact.as_of == first_quarter]
    products = sorted({fact.product for fact in facts})
    return {page: [fact for fact in facts if fact.product == name] for page, name in enumerate(products)}
