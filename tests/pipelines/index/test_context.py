"""Tests of the context of a prompt: whole pages, overviews, the rest of a cut section, and the bound in words."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.data.reading.outline import count_words
from ragtide.pipelines.index.chunking import chunk_document
from ragtide.pipelines.index.context import ContextSize, assemble_context
from ragtide.pipelines.params import ChunkParams
from ragtide.pipelines.records.data import OVERVIEW, Chunk
from tests.factories import document

FILLER = "It is a boiler among boilers. " * 20
NEWEST = "Which line of Boiler is the newest?"


def page(name: str, lines: int, filler: str = "") -> list[Chunk]:
    """The chunks of a page with so many lines, without an overview where it is short."""
    sections = "\n\n".join(f"## {name} {n}\n\n- Released: 20{n}-01-01\n\n{filler}" for n in range(10, 10 + lines))
    return chunk_document(document(f"{name}.md", f"# {name}\n\n{sections}\n"), ChunkParams())


def keys(chunks: list[Chunk]) -> list[tuple[str, int]]:
    return [(chunk.document.removesuffix(".md"), chunk.position) for chunk in chunks]


def assembled(
    question: str,
    ranked: list[Chunk],
    *pages: list[Chunk],
    top_k: int = 3,
    words: int = 480,
    required: Chunk | None = None,
) -> list[Chunk]:
    """The context with at most `words`, a multiple of `top_k`, where the hits have no more."""
    by_document = {chunks[0].document: chunks for chunks in pages}
    size = ContextSize(top_k, words // top_k)
    return assemble_context(question, ranked, by_document.__getitem__, size, {required.key} if required else set())


def context(question: str, ranked: list[Chunk], *pages: list[Chunk], **size: int) -> list[tuple[str, int]]:
    return keys(assembled(question, ranked, *pages, **size))


def test_a_short_page_most_hits_are_of_is_given_whole_and_in_order() -> None:
    boiler, pump = page("Boiler", 8), page("Pump", 8)
    found = context(NEWEST, [boiler[5], pump[1], boiler[2]], boiler, pump)
    assert found == [*(("Boiler", at) for at in range(8)), ("Pump", 1)]


def test_a_long_page_is_given_by_its_overview_before_the_hits() -> None:
    boiler = page("Boiler", 20, FILLER)
    found = context(NEWEST, [boiler[5], boiler[2], boiler[9]], boiler, words=600)
    assert found == [("Boiler", OVERVIEW), *keys([boiler[5], boiler[2], boiler[9]])]


def test_hits_of_the_lowest_rank_give_way_to_an_overview() -> None:
    boiler = page("Boiler", 20, FILLER)
    hits = [boiler[5], boiler[2], boiler[9]]
    words = sum(count_words(hit.text) for hit in hits)
    assert context(NEWEST, hits, boiler, words=words) == [("Boiler", OVERVIEW), *keys(hits[:2])]
    kept = assembled(NEWEST, hits, boiler, words=words, required=boiler[9])
    assert keys(kept) == [("Boiler", OVERVIEW), *keys([boiler[5], boiler[9]])]


@pytest.mark.parametrize("question", ["When was Boiler 15 released?", "Is boiler 15 newer than the others?"])
def test_a_question_that_names_a_heading_gets_its_hits(question: str) -> None:
    for boiler in (page("Boiler", 8), page("Boiler", 20, FILLER)):
        hits = [chunk for chunk in boiler if chunk.heading == "Boiler > Boiler 15"] + boiler[1:3]
        assert context(question, hits, boiler) == keys(hits)


def test_a_named_heading_outweighs_the_rank_of_the_overview() -> None:
    boiler = page("Boiler", 20, FILLER)
    hits = [boiler[0], *(chunk for chunk in boiler if chunk.heading == "Boiler > Boiler 15"), boiler[1]]
    assert context("When was Boiler 15 released?", hits, boiler) == keys(hits[1:])
    assert context(NEWEST, hits, boiler)[0] == ("Boiler", OVERVIEW)


@pytest.mark.parametrize(
    ("text", "question", "is_whole"),
    [
        ("# Setup\n\nintro\n\n## Disks\n\nx\n\n## Network\n\ny", "What does the setup need?", True),
        ("# Setup\n\nintro\n\n## Disks\n\nx\n\n## Network\n\ny", "Which disks does the setup need?", False),
        ("# Disks\n\nx\n\n# Network\n\ny\n\n# Power\n\nz", "Which disks are needed?", False),
        ("# 手册\n\n## 安装\n\nx\n\n## 网络\n\ny\n\n## 电源\n\nz", "如何安装这个程序？", False),
        ("# 手册\n\n## 安装\n\nx\n\n## 网络\n\ny\n\n## 电源\n\nz", "这个程序需要什么？", True),
        ("# Setup\n\n## ***\n\nx\n\n## ---\n\ny\n\n## Power\n\nz", "What is needed?", True),
    ],
)
def test_the_title_of_a_page_is_no_section(text: str, question: str, is_whole: bool) -> None:
    chunks = chunk_document(document("page.md", text), ChunkParams())
    assert len(chunks) == 3
    assert (len(context(question, chunks[:2], chunks)) == 3) is is_whole


def test_hits_of_several_pages_stay_as_they_are() -> None:
    pages = [page(name, 8) for name in ("Boiler", "Pump", "Tank")]
    hits = [chunks[2] for chunks in pages]
    assert context("Which line is the newest?", hits, *pages) == keys(hits)


def test_an_overview_that_outranks_its_page_brings_the_page_if_it_fits() -> None:
    short, long = page("Boiler", 30, "It is a boiler."), page("Pump", 20, FILLER)
    hits = [short[0], long[3], short[7]]
    assert short[0].is_overview
    assert context("Newest?", hits, short, long, words=480) == [*keys(short[1:]), ("Pump", long[3].position)]
    assert context("Newest?", hits, short, long, words=300) == keys(hits)


def test_the_section_that_the_first_hit_is_part_of_is_completed() -> None:
    text = "# Top\n\n## Long\n\n" + "\n\n".join(f"Part {n}: {'word ' * 90}" for n in range(5)) + "\n\n## Other\n\nx"
    chunks = [chunk for chunk in chunk_document(document("Top.md", text), ChunkParams()) if not chunk.is_overview]
    assert context("What is long?", [chunks[2]], chunks, words=300) == [("Top", 2), ("Top", 3), ("Top", 4)]
    assert context("Other?", [chunks[4], chunks[5]], chunks, words=201) == [("Top", 3), ("Top", 4), ("Top", 5)]
    assert context("What is long?", [chunks[2]], chunks, words=92) == [("Top", 2)]


def test_without_hits_there_is_no_context() -> None:
    assert context(NEWEST, []) == []


def test_a_page_with_half_of_the_ranked_rows_is_what_a_question_is_about_though_few_are_hits() -> None:
    boiler, others = page("Boiler", 20, FILLER), [page(name, 8) for name in ("Pump", "Tank", "Stove")]
    shown = [others[0][2], others[1][2], boiler[2], boiler[3], boiler[4], others[2][2]]
    assert context(NEWEST, shown, boiler, *others) == [("Boiler", OVERVIEW), *keys(shown[:3])]
    # A page without a hit is not: too many others are nearer to the question.
    ranked = [*(chunks[2] for chunks in others), boiler[2], boiler[3], boiler[4]]
    assert context(NEWEST, ranked, boiler, *others) == keys(ranked[:3])


def test_an_overview_that_a_passage_of_its_page_outranks_is_not_used() -> None:
    boiler, pump, tank = (page(name, 20, FILLER) for name in ("Boiler", "Pump", "Tank"))
    ranked = [pump[3], tank[4], pump[0], boiler[5], tank[5], boiler[6]]
    assert context(NEWEST, ranked, boiler, pump, tank) == keys([pump[3], tank[4], boiler[5]])
    first = [pump[0], pump[3], tank[4], boiler[5], tank[5], boiler[6]]
    assert context(NEWEST, first, boiler, pump, tank, words=600) == keys([pump[0], pump[3], tank[4], boiler[5]])


@settings(derandomize=True, deadline=None)
@given(st.data())
def test_a_context_is_bounded_in_words_and_repeats_nothing(data: st.DataObject) -> None:
    boiler, pump = page("Boiler", data.draw(st.integers(1, 30)), FILLER), page("Pump", data.draw(st.integers(1, 30)))
    top_k, words = data.draw(st.integers(1, 5)), data.draw(st.integers(0, 180))
    ranked = data.draw(st.permutations([*boiler, *pump]))[: 2 * top_k]
    question = data.draw(st.sampled_from([NEWEST, "When was Boiler 12 released?", ""]))
    shown = assembled(question, ranked, boiler, pump, top_k=top_k, words=words * top_k)
    asked = sum(count_words(chunk.text) for chunk in [hit for hit in ranked if not hit.is_overview][:top_k])
    assert sum(count_words(chunk.text) for chunk in shown) <= max(words * top_k, asked) or len(shown) == 1
    assert len({chunk.key for chunk in shown}) == len(shown)
    assert shown
