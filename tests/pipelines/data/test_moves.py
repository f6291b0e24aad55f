"""Tests of moved documents: what counts as a move, which documents are paired, and where a former path leads."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.data.moves import KEPT, DocumentPaths, Page, Surroundings, find_absorbed, find_moves
from ragtide.pipelines.index.chunking import chunk_document
from ragtide.pipelines.params import ChunkParams
from tests.factories import document

law = settings(derandomize=True, deadline=None, max_examples=60)
PARAMS = ChunkParams()
WORDS = [f"{start}{end}" for start in ("lan", "har", "mo", "tu", "sel", "bri", "cor") for end in ("ter", "bour", "dal")]
FOOTER = "This page is part of the handbook and may be copied by everyone who works here, as long as it stays whole."


def page(text: str, name: str = "any.md") -> Page:
    return Page.of(chunk_document(document(name, text), PARAMS))


def pages(texts: dict[str, str]) -> dict[str, Page]:
    return {name: page(text, name) for name, text in texts.items()}


def moves(before: dict[str, str], after: dict[str, str], around: Surroundings | None = None) -> dict[str, str]:
    return find_moves(pages(before), pages(after), around or Surroundings())


def words(seed: str, count: int) -> str:
    drawn = random.Random(seed)
    return " ".join(drawn.choice(WORDS) + str(drawn.randrange(90)) for _ in range(count))


def handbook_page(number: int, sections: int = 4, edited: int = 0, wrap: str = " ") -> str:
    """A page of its own words; the last `edited` sections say something else."""
    texts = [
        f"## Part {section}\n\n{wrap.join((words(f'{number} {section} {section >= sections - edited}', 30)).split())}."
        for section in range(sections)
    ]
    return "\n\n".join([f"# Topic {number}", *texts]) + "\n"


def test_a_folder_that_moved_with_small_edits_is_paired_page_by_page() -> None:
    before = {f"guide/{number}.md": handbook_page(number) for number in range(60)}
    after = {f"manual/{number}.md": handbook_page(number, edited=1, wrap="\n") for number in range(60)}
    assert moves(before, after) == {f"guide/{number}.md": f"manual/{number}.md" for number in range(60)}


def test_merged_and_split_pages_are_absorbed_by_the_page_that_has_most_of_them() -> None:
    before = {f"{number}.md": handbook_page(number) for number in range(4)}
    merged = pages(
        {"all.md": handbook_page(0) + handbook_page(1), "2.md": handbook_page(7), "new.md": "# New\n\nText."}
    )
    assert find_absorbed(pages(before), merged) == {"0.md": "all.md", "1.md": "all.md"}
    title, *parts = handbook_page(3).split("\n\n## ")
    texts = {"c/one.md": parts[:1], "c/two.md": parts[1:3], "c/three.md": parts[3:]}
    split = pages({name: "\n\n## ".join([title, *sections]) for name, sections in texts.items()})
    assert find_absorbed(pages({"3.md": before["3.md"]}), split) == {"3.md": "c/two.md"}


def test_a_page_whose_like_was_there_before_is_not_absorbed() -> None:
    """Only what an edited page says besides what it said before can have come from a page that vanished."""
    old, edited = page(handbook_page(1)), page(handbook_page(1) + words("more", 30))
    assert find_absorbed({"copy.md": old}, {"1.md": edited.without(old)}) == {}
    assert find_absorbed({"copy.md": old}, {"1.md": edited}) == {"copy.md": "1.md"}


def test_pages_with_other_names_are_paired_by_what_they_say() -> None:
    before = {f"guide/{number}.md": handbook_page(number) for number in range(60)}
    after = {f"new/{(number * 7) % 60}-x.md": handbook_page(number, edited=2) for number in range(60)}
    assert moves(before, after) == {f"guide/{number}.md": f"new/{(number * 7) % 60}-x.md" for number in range(60)}


@pytest.mark.parametrize(("edited", "is_move"), [(0, True), (1, True), (2, True), (3, False), (4, False)])
def test_half_of_the_content_must_be_kept(edited: int, is_move: bool) -> None:
    found = moves({"a.md": handbook_page(1)}, {"b.md": handbook_page(1, edited=edited)})
    assert bool(found) is is_move


@pytest.mark.parametrize("name", ["deep/a.md", "b.md"])
def test_a_page_that_kept_its_first_line_alone_is_no_move(name: str) -> None:
    gutted = {"a.md": "# Topic 1\n\nA short beginning.\n\n## Details\n\n" + words("details", 200) + "\n"}
    assert moves(gutted, {name: "# Topic 1\n\nA short beginning.\n"}) == {}


def test_a_page_of_common_sentences_and_its_own_title_is_no_move() -> None:
    staying = [page(f"# Other {number}\n\n{FOOTER}\n") for number in range(5)]
    before = {"a.md": f"# Pumps\n\nThe pump runs at four bar.\n\n{FOOTER}\n"}
    after = {"b.md": f"# Valves\n\nA valve is closed by hand.\n\n{FOOTER}\n"}
    assert moves(before, after, Surroundings(samples=staying)) == {}


def test_pages_of_one_template_are_not_each_other() -> None:
    template = "# Product {0}\n\n{1}\n\nThe price of {0} is {0}0 crowns.\n"
    before = {f"products/a{number}.md": template.format(number, FOOTER) for number in range(60)}
    after = {f"products/b{number}.md": template.format(number, FOOTER) for number in range(60, 120)}
    assert moves(before, after) == {}


def test_a_page_of_one_sentence_is_known_by_its_name_and_likeness() -> None:
    old = "The pump in hall three runs at four bar from Monday to Friday."
    new = "The pump in hall three runs at six bar from Monday to Friday."
    assert moves({"guide/pump.md": old}, {"manual/pump/index.md": new}) == {"guide/pump.md": "manual/pump/index.md"}
    assert moves({"guide/pump.md": old}, {"manual/pump.md": "Nothing of it is here."}) == {}


def test_a_name_that_others_have_too_is_no_evidence() -> None:
    old = "The pump in hall three runs at four bar from Monday to Friday."
    new = "The pump in hall three runs at six bar from Monday to Friday."
    assert moves({"a/spec.md": old}, {"b/spec.md": new}, Surroundings(staying=["c/spec.md"])) == {}


def test_versions_of_a_page_keep_their_own_folder() -> None:
    before = {f"v{number}/setup.md": handbook_page(1) + f"\nSince version {number}.\n" for number in range(20)}
    after = {f"docs/v{number}/setup.md": handbook_page(1) + f"\nFrom version {number} on.\n" for number in range(20)}
    assert moves(before, after) == {f"v{number}/setup.md": f"docs/v{number}/setup.md" for number in range(20)}


def test_of_two_copies_the_one_that_keeps_more_is_the_move() -> None:
    after = {"a/1.md": handbook_page(1, edited=2), "z/1.md": handbook_page(1, edited=1)}
    assert moves({"guide/1.md": handbook_page(1)}, after) == {"guide/1.md": "z/1.md"}


def test_a_page_without_spaces_is_compared_too() -> None:
    old = "水泵的压力为四巴。阀门必须手动关闭。每周检查一次油位。"
    new = "水泵的压力为六巴。阀门必须手动关闭。每周检查一次油位。"
    assert moves({"a.md": old}, {"b.md": new}) == {"a.md": "b.md"}


TEXTS = st.lists(st.sampled_from([words(str(seed), 12) + "." for seed in range(8)]), min_size=1, max_size=5)
SHELVES = st.dictionaries(st.sampled_from(["a/x.md", "b/x.md", "a/y.md", "c/z.md"]), TEXTS.map("\n\n".join), max_size=4)


@law
@given(SHELVES, SHELVES)
def test_moves_are_one_to_one_keep_half_and_do_not_depend_on_the_order(
    before: dict[str, str], after: dict[str, str]
) -> None:
    after = {f"new/{name}": text for name, text in after.items()}
    found = moves(before, after)
    assert found.keys() <= before.keys()
    assert len(set(found.values())) == len(found)
    assert set(found.values()) <= after.keys()
    for old, new in found.items():
        was, now = page(before[old]), page(after[new])
        assert max(was.kept_in(now), was.likeness(now)) >= KEPT
    assert found == moves(dict(reversed(before.items())), dict(reversed(after.items())))


def test_the_cost_grows_with_the_number_of_pages() -> None:
    def seconds(count: int) -> float:
        before = pages({f"guide/{number}.md": handbook_page(number, 2) for number in range(count)})
        after = pages({f"manual/{number}.md": handbook_page(number, 2, edited=1) for number in range(count)})
        started = time.perf_counter()
        assert len(find_moves(before, after)) == count
        return time.perf_counter() - started

    assert seconds(1600) < 16 * max(0.05, seconds(200))


# --- former paths ----------------------------------------------------------------------------------------------------


def test_a_former_path_leads_through_every_move_to_the_present_one() -> None:
    paths = DocumentPaths({"c.md": "3"}, moves={"b.md": "c.md"}, former={"a.md": "b.md", "x.md": "y.md"})
    assert [paths.current(name) for name in ("a.md", "b.md", "c.md", "x.md")] == ["c.md", "c.md", "c.md", "x.md"]
    assert paths.former_paths() == {"a.md": "c.md", "b.md": "c.md"}
    assert paths.outdated(["c.md", "a.md", "x.md", "unknown.md"]) == {"a.md": "c.md"}


def test_a_path_that_another_document_has_taken_is_that_document() -> None:
    paths = DocumentPaths({"a.md": "9", "b.md": "1"}, former={"a.md": "b.md"})
    assert (paths.current("a.md"), paths.former_paths()) == ("a.md", {})


def test_moves_in_a_circle_end() -> None:
    assert DocumentPaths({}, former={"a.md": "b.md", "b.md": "a.md"}).moved_to("a.md") is None


def test_a_document_is_found_under_the_path_that_has_its_last_content() -> None:
    states = [{"b.md": "1", "a.md": "2"}, {"a.md": "0", "old.md": "2"}]
    paths = DocumentPaths({"c.md": "2"}, earlier=lambda: states)
    assert [paths.current(name) for name in ("a.md", "old.md", "b.md")] == ["c.md", "c.md", "b.md"]
    assert paths.moved_to("a.md") is None
