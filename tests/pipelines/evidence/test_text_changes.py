"""Is news told from what only moved or looks different? And does a probe hold the two values of one edit?"""

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
LINES = st.lists(st.sampled_from(["- ", "", "| "]).flatmap(lambda mark: SENTENCES.map(lambda one: f"{mark}{one}.")))
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


def told(before: str | list[tuple[str, str]], after: str | list[tuple[str, str]]) -> TextChanges:
    """The news of one document; a text is one passage without a heading."""
    sides = [[("", side)] if isinstance(side, str) else side for side in (before, after)]
    return compare_texts(base({"a.md": sides[0]}), base({"a.md": sides[1]}))


def counts(found: TextChanges) -> tuple[int, int, int, int]:
    return found.edited_facts, found.reworded, found.added, found.removed


NOTHING = (0, 0, 0, 0)


@law
@given(BASES)
def test_what_is_the_same_is_no_news(documents: Base) -> None:
    found = compare_texts(base(documents), base(documents))
    assert (counts(found), found.fact_checks, found.deletion_checks, found.changed) == (NOTHING, (), (), 0)


@law
@given(BASES, st.permutations(["x.md", "b.md", "a.md"]))
def test_a_rename_of_all_documents_is_no_news(documents: Base, names: list[str]) -> None:
    renamed = dict(zip(names, documents.values(), strict=False))
    assert counts(compare_texts(base(documents), base(renamed))) == NOTHING


@law
@given(PAGES, st.randoms(use_true_random=False))
def test_another_order_of_the_lines_is_no_news(passages: list[tuple[str, str]], random: object) -> None:
    listed = [(heading, "\n".join(f"- {line}" for line in body.split("\n"))) for heading, body in passages]
    turned = [(heading, "\n".join(reversed(body.split("\n")))) for heading, body in reversed(listed)]
    assert counts(told(listed, turned)) == NOTHING


@law
@given(st.lists(SENTENCES, min_size=1), st.integers(12, 60), st.integers(12, 60))
def test_a_re_wrap_is_no_news(sentences: list[str], narrow: int, wide: int) -> None:
    text = ". ".join(sentences) + "."
    assert counts(told(textwrap.fill(text, narrow), textwrap.fill(text, wide))) == NOTHING


@law
@given(BASES, BASES)
def test_before_and_after_swapped_give_the_same_pairs_the_other_way_round(one: Base, other: Base) -> None:
    there, back = compare_texts(base(one), base(other)), compare_texts(base(other), base(one))
    assert counts(there) == (back.edited_facts, back.reworded, back.removed, back.added)
    assert sorted((probe.old, probe.new) for probe in there.fact_checks) == sorted(
        (p.new, p.old) for p in back.fact_checks
    )


@law
@given(BASES, BASES)
def test_every_sentence_is_counted_once(one: Base, other: Base) -> None:
    found = compare_texts(base(one), base(other))
    assert found.changed <= found.sentences
    assert found.sentences == sum(counts(compare_texts({}, base(other))))
    assert len(found.fact_checks) <= found.edited_facts
    assert len(found.deletion_checks) <= found.removed


@law
@given(st.text(), st.text(), st.text())
def test_any_text_can_be_read(heading: str, before: str, after: str) -> None:
    found = told([(heading, before)], [(heading, after)])
    assert all(probe.question.count(MASK) == 1 for probe in found.fact_checks)
    assert counts(told([(heading, after)], [(heading, after)])) == NOTHING


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
    ids=["bullets", "bold", "case", "a link", "a quotation", "a table", "a comma", "a slip", "an escape", "a v"],
)
def test_what_only_looks_different_is_no_news(before: str, after: str) -> None:
    assert counts(told(before, after)) == NOTHING


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
def test_a_small_sign_that_says_something_is_news(before: str, after: str) -> None:
    assert told(before, after).changed == 1


def test_a_heading_in_other_punctuation_is_the_same_place() -> None:
    assert counts(told([("Tool: notes", "At 3.1.")], [("**Tool** Notes", "At 3.1.")])) == NOTHING


@pytest.mark.parametrize(
    ("before", "after", "probe"),
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
def test_an_edited_value_makes_one_probe(before: str, after: str, probe: tuple[str, str, str]) -> None:
    found = told(before, after)
    assert counts(found) == (1, 0, 0, 0)
    assert found.fact_checks == (FactCheck("a.md", *probe),)


@law
@given(st.integers(0, 2), st.integers(0, 999), st.integers(0, 999))
def test_one_number_swapped_is_one_probe(at: int, old: int, new: int) -> None:
    lines = [f"The part of kind {kind} takes room for guests" for kind in ("oak", "elm", "ash")]
    before, after = ([*lines[:at], f"{lines[at]}: {value}", *lines[at + 1 :]] for value in (old, new))
    found = told("\n".join(f"- {line}" for line in before), "\n".join(f"- {line}" for line in after))
    expected = [] if old == new else [(str(old), str(new))]
    assert [(probe.old, probe.new) for probe in found.fact_checks] == expected
    assert counts(found) == (len(expected), 0, 0, 0)


def test_a_line_is_compared_with_that_under_its_own_heading() -> None:
    """Both sections change, and one comes to say what the other did."""
    before = [("Tool > Tool 4", "- Latest: 4.1"), ("Tool > Tool 3", "- Latest: 3.9")]
    after = [("Tool > Tool 4", "- Latest: 3.9"), ("Tool > Tool 3", "- Latest: 4.1")]
    assert [(one.question, one.old, one.new) for one in told(before, after).fact_checks] == [
        ("Tool > Tool 4\nLatest: …", "4.1", "3.9"),
        ("Tool > Tool 3\nLatest: …", "3.9", "4.1"),
    ]


def test_the_same_line_under_another_number_is_another_fact() -> None:
    found = told([("Tool > Tool 3", "- Supported: yes")], [("Tool > Tool 5", "- Supported: yes")])
    assert (found.added, found.removed) == (1, 1)


def test_a_page_in_another_order_is_no_news() -> None:
    assert counts(told(EOL, [EOL[2], EOL[0], EOL[1]])) == NOTHING


def test_a_sentence_that_moved_to_another_page_is_no_news() -> None:
    before = {"a.md": EOL, "b.md": [("Other", "Nothing here.")]}
    after = {"a.md": EOL[1:], "b.md": [("Other", "Nothing here."), ("Other > Who", EOL[0][1])]}
    assert counts(compare_texts(base(before), base(after))) == NOTHING


def test_a_heading_in_other_words_makes_no_news_of_what_stands_below() -> None:
    assert counts(told([("Tool > Upgrading", "- Run it twice")], [("Tool > Upgrades", "- Run it twice")])) == NOTHING


def test_an_edit_of_a_renamed_document_is_one_edit() -> None:
    edited = [*EOL[:2], (EOL[2][0], EOL[2][1].replace("3.9", "3.10"))]
    found = compare_texts(base({"old.md": EOL}), base({"new.md": edited}))
    assert counts(found) == (1, 0, 0, 0)
    assert found.fact_checks == (FactCheck("new.md", "Tool > Tool 3\nLatest release: …", "3.9", "3.10"),)


def test_a_removed_document_leaves_canaries() -> None:
    found = compare_texts(base({"a.md": EOL, "b.md": EOL[:1]}), base({"b.md": EOL[:1]}))
    assert counts(found) == (0, 0, 0, 7)
    assert {one.document for one in found.deletion_checks} == {"a.md"}
    assert len(found.deletion_checks) == 6
    assert [one.removed for one in found.deletion_checks][:2] == ["Released: 2024-04-02", "Latest release: 4.1"]
    assert found.deletion_checks[0].question == "Tool > Tool 4\nReleased: 2024-04-02"


def test_what_is_left_in_another_document_is_no_canary() -> None:
    found = compare_texts(base({"a.md": EOL, "b.md": EOL}), base({"b.md": EOL}))
    assert (found.removed, found.deletion_checks) == (7, ())


def test_a_word_alone_is_no_canary() -> None:
    found = told("- Yes\n- The red house has burnt down.", "")
    assert (found.removed, [one.removed for one in found.deletion_checks]) == (2, ["The red house has burnt down."])


def test_a_sentence_said_in_other_words_is_reworded() -> None:
    found = told("You can read all the pages of the book here.", "All the pages of the book can be read online by you.")
    assert (counts(found), found.fact_checks) == ((0, 1, 0, 0), ())


def test_a_value_that_still_stands_in_its_place_makes_no_probe() -> None:
    found = told("- At 3.1\n- At 3.1", "- At 3.1\n- At 3.2")
    assert (found.edited_facts, found.fact_checks) == (1, ())


def test_a_sentence_that_two_passages_share_is_one() -> None:
    before = [("Tool", "It is at 3.1 and runs"), ("Tool", "on 2 cores. It is free.")]
    after = [("Tool", "It is at 3.1 and runs on 2 cores."), ("Tool", "It is free.")]
    assert counts(told(before, after)) == NOTHING


def test_the_head_that_each_part_of_a_table_repeats_is_said_once() -> None:
    head, rows = "| tool | at |\n|---|---|\n", ["| oak | 1 |", "| elm | 2 |"]
    assert counts(told([("T", head + rows[0]), ("T", head + rows[1])], [("T", head + "\n".join(rows))])) == NOTHING


def test_lines_of_code_are_told_apart() -> None:
    found = told("```\na = 1\nlimit = 2\n```", "```\na = 1\nlimit = 3\n```")
    assert (found.sentences, [(one.question, one.old) for one in found.fact_checks]) == (2, [("limit = …", "2")])


def test_a_long_question_keeps_what_stands_near() -> None:
    words = " ".join(f"w{chr(97 + at % 26)}" for at in range(100))
    question = told(f"{words} at 3.1 now {words}", f"{words} at 3.2 now {words}").fact_checks[0].question
    assert len(question.split()) == 61
    assert f"at {MASK} now" in question


def test_edits_far_apart_in_a_long_list_find_each_other() -> None:
    lines = [f"- item {at} costs {at + 7} euros in the shop" for at in range(300)]
    raised = [f"- item {at} costs {at + 8000} euros in the shop" for at in range(300)]
    more = [f"- a wholly different remark with number {at}" for at in range(100)]
    found = told("\n".join(lines), "\n".join([*more, *raised]))
    assert counts(found) == (300, 0, 100, 0)
    assert {(one.old, one.new) for one in found.fact_checks} == {(str(at + 7), str(at + 8000)) for at in range(300)}


def test_words_are_compared_without_dress() -> None:
    assert (
        plain_text("## The **Tool**, (v3.1.18) | [site](https://x.example) – 5%, C++!") == "the tool 3.1.18 site 5% c++"
    )
    assert plain_heading_path("Tool: notes > `3.1`") == ("tool notes", "3.1")
    assert plain_heading_path("") == ()
