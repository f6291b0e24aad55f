"""Tests of text comparison: edited facts, reworded, moved and removed sentences."""

from __future__ import annotations

import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.evidence.sentences import MASK, plain_heading_path, plain_text
from ragtide.pipelines.evidence.text_changes import FactCheck, TextChanges, compare_texts
from ragtide.pipelines.records.data import Chunk

law = settings(derandomize=True, deadline=None, max_examples=40)
# Few words, so that equal sentences, values and headings are common.
WORDS = st.sampled_from(["alpha", "server", "Release", "release", "3.1", "3.2", "2024-05-01", "support", "ends"])
SENTENCES = st.lists(WORDS, min_size=1, max_size=6).map(" ".join)
LINES = st.lists(
    st.sampled_from(["- ", "", "| "]).flatmap(lambda mark: SENTENCES.map(lambda sentence: f"{mark}{sentence}."))
)
HEADINGS = st.sampled_from(["", "Tool", "Tool > Tool 3.1", "Tool > Tool 3.2", "Other > Notes"])
PAGES = st.lists(st.tuples(HEADINGS, LINES.map("\n".join)), max_size=3)
BASES = st.dictionaries(st.sampled_from(["a.md", "b.md", "c/a.md"]), PAGES, max_size=3)
Base = dict[str, list[tuple[str, str]]]
EOL = [
    ("Tool", "The tool is kept by its community, and it is free of charge for all."),
    ("Tool > Tool 4", "- Released: 2024-04-02\n- Latest release: 4.1\n- Supported: yes"),
    ("Tool > Tool 3", "- Released: 2023-04-02\n- Latest release: 3.9\n- Supported: yes"),
]


def page(name: str, *passages: tuple[str, str]) -> list[Chunk]:
    """Passages of one document, each under its heading, as the chunker writes them."""
    texts = ["\n".join(part for part in passage if part) for passage in passages]
    return [
        Chunk(document=name, position=at, heading=heading, text=text, digest="", document_digest="")
        for at, ((heading, _), text) in enumerate(zip(passages, texts, strict=True))
    ]


def base(documents: Base) -> dict[str, list[Chunk]]:
    return {name: page(name, *passages) for name, passages in documents.items()}


def changes_of(before: str | list[tuple[str, str]], after: str | list[tuple[str, str]]) -> TextChanges:
    """The changes of one document; a string is a single passage without a heading."""
    sides = [[("", side)] if isinstance(side, str) else side for side in (before, after)]
    return compare_texts(base({"a.md": sides[0]}), base({"a.md": sides[1]}))


def counts(changes: TextChanges) -> tuple[int, int, int, int]:
    return changes.edited_facts, changes.reworded, changes.added, changes.removed


NOTHING = (0, 0, 0, 0)


@law
@given(BASES)
def test_equal_texts_have_no_changes(documents: Base) -> None:
    changes = compare_texts(base(documents), base(documents))
    assert (counts(changes), changes.fact_checks, changes.deletion_checks, changes.changed) == (NOTHING, (), (), 0)


@law
@given(BASES, st.permutations(["x.md", "b.md", "a.md"]))
def test_renaming_all_documents_is_no_change(documents: Base, names: list[str]) -> None:
    renamed = dict(zip(names, documents.values(), strict=False))
    assert counts(compare_texts(base(documents), base(renamed))) == NOTHING


@law
@given(PAGES, st.randoms(use_true_random=False))
def test_reordering_lines_is_no_change(passages: list[tuple[str, str]], random: object) -> None:
    listed = [(heading, "\n".join(f"- {line}" for line in body.split("\n"))) for heading, body in passages]
    reversed_passages = [(heading, "\n".join(reversed(body.split("\n")))) for heading, body in reversed(listed)]
    assert counts(changes_of(listed, reversed_passages)) == NOTHING


@law
@given(st.lists(SENTENCES, min_size=1), st.integers(12, 60), st.integers(12, 60))
def test_rewrapping_text_is_no_change(sentences: list[str], narrow: int, wide: int) -> None:
    text = ". ".join(sentences) + "."
    assert counts(changes_of(textwrap.fill(text, narrow), textwrap.fill(text, wide))) == NOTHING


@law
@given(BASES, BASES)
def test_swapping_before_and_after_swaps_the_values_of_each_pair(first: Base, second: Base) -> None:
    there, back = compare_texts(base(first), base(second)), compare_texts(base(second), base(first))
    assert counts(there) == (back.edited_facts, back.reworded, back.removed, back.added)
    assert sorted((fact_check.old, fact_check.new) for fact_check in there.fact_checks) == sorted(
        (p.new, p.old) for p in back.fact_checks
    )


@law
@given(BASES, BASES)
def test_every_sentence_is_counted_once(first: Base, second: Base) -> None:
    changes = compare_texts(base(first), base(second))
    assert changes.changed <= changes.sentences
    assert changes.sentences == sum(counts(compare_texts({}, base(second))))
    assert len(changes.fact_checks) <= changes.edited_facts
    assert len(changes.deletion_checks) <= changes.removed


@law
@given(st.text(), st.text(), st.text())
def test_any_text_can_be_compared(heading: str, before: str, after: str) -> None:
    changes = changes_of([(heading, before)], [(heading, after)])
    assert all(fact_check.question.count(MASK) == 1 for fact_check in changes.fact_checks)
    assert counts(changes_of([(heading, after)], [(heading, after)])) == NOTHING


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("- one thing\n- another 3.1", "* one thing\n* another 3.1"),
        ("The tool is at 3.1 now.", "The **tool** is at `3.1` now."),
        ("The tool is at 3.1 now.", "the TOOL is at 3.1 now!"),
        ("The tool is at 3.1 now.", "The [tool](https://tool.example/3) is at 3.1 now."),
        ("The tool is at 3.1 now.", "> The tool is at\n> 3.1 now."),
        ("| tool | 3.1 |\n|---|---|", "| tool  | 3.1  |\n|-------|:-----|"),
        ("It runs well. It is free.", "It runs well, it is free."),
        ("We recieve your mail.", "We receive your mail."),
        ("The snake_case and Pop!_OS.", "The snake_case and Pop!\\_OS."),
        ("Version v3.1 is out.", "Version 3.1 is out."),
    ],
    ids=["bullets", "bold", "case", "a link", "a quotation", "a table", "a comma", "a typo", "an escape", "a v"],
)
def test_differences_of_formatting_are_no_changes(before: str, after: str) -> None:
    assert counts(changes_of(before, after)) == NOTHING


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("The limit is -5 degrees.", "The limit is 5 degrees."),
        ("Written in C by hand.", "Written in C++ by hand."),
        ("| backups | ✅ |", "| backups | ❌ |"),
        ("It is now there.", "It is not there."),
        ("Support is given.", "Support is not given."),
        ("Release 21.0.8+9 is out.", "Release 21.0.8+10 is out."),
    ],
)
def test_a_small_difference_of_meaning_is_a_change(before: str, after: str) -> None:
    assert changes_of(before, after).changed == 1


def test_punctuation_does_not_make_another_heading() -> None:
    assert counts(changes_of([("Tool: notes", "At 3.1.")], [("**Tool** Notes", "At 3.1.")])) == NOTHING


@pytest.mark.parametrize(
    ("before", "after", "fact_check"),
    [
        ("At 3.1.18, it is done.", "At 3.1.19, it is done.", ("At …, it is done.", "3.1.18", "3.1.19")),
        ("Held on 3 May 2024.", "Held on 12 June 2024.", ("Held on … 2024.", "3 May", "12 June")),
        ("It is led by Ann Low.", "It is led by Jo High.", ("It is led by ….", "Ann Low", "Jo High")),
        ("End of life: not yet", "End of life: 2025-10-31", ("End of life: …", "not yet", "2025-10-31")),
        ("| tool | 3.1 | free |", "| tool | 3.2 | free |", ("tool … free", "3.1", "3.2")),
        ("使用版本 3 的工具。", "使用版本 4 的工具。", ("使用版本 … 的工具。", "3", "4")),
        ("Wait… for 3 days.", "Wait… for 4 days.", ("Wait... for … days.", "3", "4")),
    ],
)
def test_an_edited_value_makes_one_fact_check(before: str, after: str, fact_check: tuple[str, str, str]) -> None:
    changes = changes_of(before, after)
    assert counts(changes) == (1, 0, 0, 0)
    assert changes.fact_checks == (FactCheck("a.md", *fact_check),)


@law
@given(st.integers(0, 2), st.integers(0, 999), st.integers(0, 999))
def test_one_replaced_number_is_one_fact_check(at: int, old: int, new: int) -> None:
    lines = [f"The part of kind {kind} takes room for guests" for kind in ("oak", "elm", "ash")]
    before, after = ([*lines[:at], f"{lines[at]}: {value}", *lines[at + 1 :]] for value in (old, new))
    changes = changes_of("\n".join(f"- {line}" for line in before), "\n".join(f"- {line}" for line in after))
    expected = [] if old == new else [(str(old), str(new))]
    assert [(fact_check.old, fact_check.new) for fact_check in changes.fact_checks] == expected
    assert counts(changes) == (len(expected), 0, 0, 0)


def test_a_line_is_compared_with_the_line_under_the_same_heading() -> None:
    """Both sections change, and the values are swapped."""
    before = [("Tool > Tool 4", "- Latest: 4.1"), ("Tool > Tool 3", "- Latest: 3.9")]
    after = [("Tool > Tool 4", "- Latest: 3.9"), ("Tool > Tool 3", "- Latest: 4.1")]
    assert [(check.question, check.old, check.new) for check in changes_of(before, after).fact_checks] == [
        ("Tool > Tool 4\nLatest: …", "4.1", "3.9"),
        ("Tool > Tool 3\nLatest: …", "3.9", "4.1"),
    ]


def test_the_same_line_under_a_heading_with_another_number_is_another_fact() -> None:
    changes = changes_of([("Tool > Tool 3", "- Supported: yes")], [("Tool > Tool 5", "- Supported: yes")])
    assert (changes.added, changes.removed) == (1, 1)


def test_reordering_the_metadata_of_a_page_is_no_change() -> None:
    lines = ["title: Leave", "tags: [people, time off]", "owner: Ann Lee", "reviewed: 2026-01-05"]
    before, after = ("\n".join(["---", *some, "---", "# Leave"]) for some in (lines, lines[::-1]))
    assert changes_of(before, after).substantive == 0
    edited = after.replace("2026-01-05", "2026-02-05")
    assert (changes_of(before, edited).substantive, changes_of(before, edited).edited_facts) == (1, 1)


@pytest.mark.parametrize(
    ("old", "new"), [("{}", "1. {}"), ("1.1 {}", "1.2 {}"), ("2.1.3 {}", "2.1.4. {}"), ("9 {}", "10 {}")]
)
def test_numbering_headings_is_no_change(old: str, new: str) -> None:
    sections = [("Setup", "Run it.\nUse port 80."), ("Use of M900 2", "Run it.\nAsk twice."), ("End", "Stop it.")]
    before, after = ([(form.format(title), text) for title, text in sections] for form in (old, new))
    assert changes_of(before, after).substantive == 0
    after[0] = (after[0][0], "Run it.\nUse port 81.")
    assert changes_of(before, after).edited_facts == 1


def test_a_sentence_that_another_changed_page_still_says_is_not_absent() -> None:
    pages = {"a.md": page("a.md", ("", "Ask Ann. Pay Bob.")), "b.md": page("b.md", ("", "Pay Bob. Call Cy."))}
    changes = compare_texts(pages, pages | {"a.md": page("a.md", ("", "Ask Ann."))})
    assert (changes.removed, changes.absent) == (1, 0)
    changes = compare_texts(pages, pages | {"a.md": page("a.md", ("", "Pay Bob."))})
    assert (changes.removed, changes.absent, changes.substantive) == (1, 1, 1)


def test_reordering_sections_is_no_change() -> None:
    assert counts(changes_of(EOL, [EOL[2], EOL[0], EOL[1]])) == NOTHING


def test_moving_a_sentence_to_another_page_is_no_change() -> None:
    before = {"a.md": EOL, "b.md": [("Other", "Nothing here.")]}
    after = {"a.md": EOL[1:], "b.md": [("Other", "Nothing here."), ("Other > Who", EOL[0][1])]}
    assert counts(compare_texts(base(before), base(after))) == NOTHING


def test_rewording_a_heading_does_not_change_the_lines_below_it() -> None:
    assert (
        counts(changes_of([("Tool > Upgrading", "- Run it twice")], [("Tool > Upgrades", "- Run it twice")])) == NOTHING
    )


def test_an_edit_of_a_renamed_document_is_one_edit() -> None:
    edited = [*EOL[:2], (EOL[2][0], EOL[2][1].replace("3.9", "3.10"))]
    changes = compare_texts(base({"old.md": EOL}), base({"new.md": edited}))
    assert counts(changes) == (1, 0, 0, 0)
    assert changes.fact_checks == (FactCheck("new.md", "Tool > Tool 3\nLatest release: …", "3.9", "3.10"),)


def test_a_removed_document_makes_deletion_checks() -> None:
    changes = compare_texts(base({"a.md": EOL, "b.md": EOL[:1]}), base({"b.md": EOL[:1]}))
    assert counts(changes) == (0, 0, 0, 7)
    assert {check.document for check in changes.deletion_checks} == {"a.md"}
    assert len(changes.deletion_checks) == 6
    assert [check.removed for check in changes.deletion_checks][:2] == ["Released: 2024-04-02", "Latest release: 4.1"]
    assert changes.deletion_checks[0].question == "Tool > Tool 4\nReleased: 2024-04-02"


def test_a_sentence_that_another_document_still_holds_makes_no_deletion_check() -> None:
    changes = compare_texts(base({"a.md": EOL, "b.md": EOL}), base({"b.md": EOL}))
    assert (changes.removed, changes.deletion_checks) == (7, ())


def test_a_single_word_makes_no_deletion_check() -> None:
    changes = changes_of("- Yes\n- The red house has burnt down.", "")
    assert (changes.removed, [check.removed for check in changes.deletion_checks]) == (
        2,
        ["The red house has burnt down."],
    )


def test_a_sentence_in_other_words_is_reworded() -> None:
    changes = changes_of(
        "You can read all the pages of the book here.", "All the pages of the book can be read online by you."
    )
    assert (counts(changes), changes.fact_checks) == ((0, 1, 0, 0), ())


def test_an_old_value_that_is_still_in_its_place_makes_no_fact_check() -> None:
    changes = changes_of("- At 3.1\n- At 3.1", "- At 3.1\n- At 3.2")
    assert (changes.edited_facts, changes.fact_checks) == (1, ())


def test_a_sentence_split_across_two_passages_counts_once() -> None:
    before = [("Tool", "It is at 3.1 and runs"), ("Tool", "on 2 cores. It is free.")]
    after = [("Tool", "It is at 3.1 and runs on 2 cores."), ("Tool", "It is free.")]
    assert counts(changes_of(before, after)) == NOTHING


def test_the_repeated_header_of_a_split_table_counts_once() -> None:
    head, rows = "| tool | at |\n|---|---|\n", ["| oak | 1 |", "| elm | 2 |"]
    assert (
        counts(changes_of([("T", head + rows[0]), ("T", head + rows[1])], [("T", head + "\n".join(rows))])) == NOTHING
    )


def test_lines_of_code_are_compared_line_by_line() -> None:
    changes = changes_of("```\na = 1\nlimit = 2\n```", "```\na = 1\nlimit = 3\n```")
    assert (changes.sentences, [(check.question, check.old) for check in changes.fact_checks]) == (
        2,
        [("limit = …", "2")],
    )


def test_a_long_question_keeps_the_words_near_the_value() -> None:
    words = " ".join(f"w{chr(97 + at % 26)}" for at in range(100))
    question = changes_of(f"{words} at 3.1 now {words}", f"{words} at 3.2 now {words}").fact_checks[0].question
    assert len(question.split()) == 61
    assert f"at {MASK} now" in question


def test_edits_are_paired_across_a_long_list() -> None:
    lines = [f"- item {at} costs {at + 7} euros in the shop" for at in range(300)]
    raised = [f"- item {at} costs {at + 8000} euros in the shop" for at in range(300)]
    more = [f"- a wholly different remark with number {at}" for at in range(100)]
    changes = changes_of("\n".join(lines), "\n".join([*more, *raised]))
    assert counts(changes) == (300, 0, 100, 0)
    assert {(check.old, check.new) for check in changes.fact_checks} == {
        (str(at + 7), str(at + 8000)) for at in range(300)
    }


def test_words_are_compared_without_markup() -> None:
    assert (
        plain_text("## The **Tool**, (v3.1.18) | [site](https://x.example) – 5%, C++!") == "the tool 3.1.18 site 5% c++"
    )
    assert plain_heading_path("Tool: notes > `3.1`") == ("tool notes", "3.1")
    assert plain_heading_path("") == ()
