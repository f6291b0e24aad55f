"""Tests of finding edited documents that lose most of their text."""

from __future__ import annotations

import random
import textwrap

import pytest

from ragtide.pipelines.history.lost_content import (
    count_lost_rows,
    find_cut,
    find_emptied,
    removal_digest,
    removed_content,
)
from ragtide.pipelines.index.chunking import chunk_document
from ragtide.pipelines.params import ChunkParams
from ragtide.pipelines.records.data import Chunk, Document

WORDS = (
    *("the", "of", "and", "to", "in", "a", "is", "for", "on", "with", "pump", "valve", "tank", "gear", "motor"),
    *("crane", "report", "board", "member", "office", "rule"),
)


def prose(seed: int, sentences: int = 30) -> str:
    """Sentences of common words and of some that no other seed has."""
    draw = random.Random(seed)
    names = [f"w{chr(97 + seed % 26)}{''.join(draw.choices('abcdefgh', k=5))}" for _ in range(40)]
    return " ".join(
        " ".join(draw.choice(WORDS if at % 2 else names) for at in range(12)).capitalize() + "."
        for _ in range(sentences)
    )


def chunks(name: str, text: str) -> list[Chunk]:
    return chunk_document(Document(id=name, text=text, digest=str(hash(text))), ChunkParams())


def emptied(before: dict[str, str], after: dict[str, str]) -> list[str]:
    return find_emptied(
        {name: chunks(name, text) for name, text in before.items()},
        {name: chunks(name, text) for name, text in after.items()},
    )


PAGE = f"# Pumps\n\n## Service\n\n{prose(1)}\n\n## Parts\n\n{prose(2)}\n"
TABLE = "# Prices\n\n| part | price | since |\n| --- | --- | --- |\n" + "".join(
    f"| part{chr(97 + row)} | {row}.50 | 2024-01-{row + 1:02} |\n" for row in range(20)
)
OFFICES = "# Offices\n\n" + "".join(f"- Head of unit{chr(97 + at)}: Name{chr(97 + at)}\n" for at in range(20))


@pytest.mark.parametrize(
    ("now", "is_emptied"),
    [
        ("# Pumps\n\nMoved.\n", True),
        ("# Pumps\n", True),
        (f"# Pumps\n\n## Service\n\n{prose(1, 10)}\n", True),
        (f"# Pumps\n\n## Service\n\n{prose(3)}\n\n## Parts\n\n{prose(4)}\n", True),
        (f"# Pumps\n\n{prose(5, 200)}\n", True),
        (f"# Pumps\n\n## Service\n\n{prose(1)}\n\n## Parts\n\n{prose(2, 20)}\n", False),
        (PAGE.replace("pump", "compressor").replace("the ", ""), False),
        ("\n\n".join(textwrap.fill(part, 40) for part in PAGE.upper().split("\n\n")), False),
        (f"# Pumps and tanks\n\n## Parts\n\n{prose(2)}\n\n## 1 Service\n\n{prose(1)}\n\n{prose(6)}", False),
    ],
    ids=[
        "moved",
        "title",
        "a sixth",
        "replaced",
        "replaced by more",
        "most stays",
        "edited",
        "re-wrapped",
        "reordered",
    ],
)
def test_a_document_is_emptied_where_most_of_its_text_is_lost(now: str, is_emptied: bool) -> None:
    assert emptied({"a.md": PAGE}, {"a.md": now}) == (["a.md"] if is_emptied else [])


@pytest.mark.parametrize(
    ("page", "now"),
    [
        (TABLE, TABLE.replace("2024", "2031").replace(".50", ".75")),
        (OFFICES, OFFICES.replace("Name", "Other")),
        ("# Tank\n\n- End of life: 2027-01-01\n", "# Tank\n\n- End of life: 2031-05-05\n"),
    ],
    ids=["every number", "every name", "a fact"],
)
def test_a_page_of_other_values_is_not_emptied(page: str, now: str) -> None:
    assert emptied({"a.md": page}, {"a.md": now}) == []
    assert emptied({"a.md": page}, {"a.md": "# Gone\n\nThis page was moved.\n"}) == ["a.md"]


def test_what_moved_to_another_new_or_edited_document_is_not_lost() -> None:
    second = prose(7)
    before = {"a.md": PAGE, "b.md": second}
    moved = {"a.md": "Moved.", "b.md": "Moved.", "all.md": f"# All\n\n{PAGE}\n\n{textwrap.fill(second, 30)}"}
    assert emptied(before, moved) == []
    assert emptied(before, moved | {"all.md": f"# All\n\n{PAGE}"}) == ["b.md"]
    assert emptied(before, {"a.md": "Moved.", "b.md": f"{second}\n\n{PAGE}"}) == []


def cut(before: dict[str, str], after: dict[str, str], allowed: float) -> list[str]:
    return find_cut(*({name: chunks(name, text) for name, text in side.items()} for side in (before, after)), allowed)


SITE = {f"{number}.md": f"# Page {number}\n\n{prose(number)}\n\n{prose(number + 50, 12)}\n" for number in range(20)}


def test_many_documents_that_lose_a_part_count_by_the_parts() -> None:
    """Of each page 12 of 42 sentences go: 20 pages lose 5.7 pages."""
    shorter = {name: f"# Page {name}\n\n{prose(int(name[:-3]))}\n" for name in SITE}
    assert cut(SITE, shorter, allowed=5) == sorted(SITE)
    assert cut(SITE, shorter, allowed=6) == []
    assert cut(SITE, SITE | {"3.md": shorter["3.md"]}, allowed=1) == []


@pytest.mark.parametrize("allowed", [0.5, 1])
def test_other_words_a_common_footer_and_moved_text_are_no_lost_parts(allowed: float) -> None:
    rewritten = {name: f"# Page\n\n{prose(int(name[:-3]))}\n\n{prose(int(name[:-3]) + 90, 12)}\n" for name in SITE}
    assert cut(SITE, rewritten, allowed) == []
    footer = {name: f"{text}\n{prose(99, 12)}\n" for name, text in SITE.items()}
    assert cut(footer, SITE, allowed) == []
    moved = {name: f"# Page\n\n{prose(int(name[:-3]))}\n" for name in SITE}
    assert cut(SITE, moved | {"all.md": "\n\n".join(SITE.values())}, allowed) == []


def test_rows_are_lost_whose_text_no_changed_document_has() -> None:
    rows = chunks("a.md", PAGE)
    assert len(rows) >= 4
    assert count_lost_rows(rows, {}) == len(rows)
    assert count_lost_rows(rows, {"b.md": rows[:1]}) == len(rows) - 1


def test_a_removal_names_what_is_lost_and_what_replaces_it() -> None:
    assert removal_digest("old", "new") != removal_digest("old", "other") != removal_digest("older", "other")
    assert removed_content(removal_digest("old", "new")) == removed_content("old") == "old"
