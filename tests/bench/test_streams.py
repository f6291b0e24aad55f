"""Tests of the streams: cosmetic edits, base data and simulated changes; the recorded streams only with the data."""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.streams import Step, Stream, missing, streams
from bench.streams.__main__ import HEAD, answers_changed, changes, new_examples, rows
from bench.streams.behaviour import short_dialogue
from bench.streams.changed_facts import MOST_ASKED
from bench.streams.edits import EDITS, words, wrap
from bench.streams.lifecycle import Fact, Ground, Quarter, is_clear, sections, split, trim
from bench.streams.names import EXAMPLES_PER_NAME, IN_HOUSE
from bench.streams.recorded import REAL
from bench.streams.world import World
from ragtide.pipelines.data.text import holds_answer
from ragtide.pipelines.evaluation.scoring import grade_answer
from ragtide.pipelines.records.action import ACTIONS, Action

DATA = Path(__file__).parents[3] / "shared" / "data"
SHARED_START = ("facts", "cosmetic", "gutted", "mixed", "rename", "domain")

PAGE = """# Aleph

Category: tools.

Aleph is a tool that is described by a long sentence of many words, so that it has to be broken into two lines of text,
with [a link](https://example.org/a-b) and a version such as 1.2.3-h4.

- a marked line stays
- End of life: 2025-01-31

## Aleph 2

- Released: 2024-01-31
- Latest release: 2.0.1

## Aleph 1

- Released: 2023-01-31
- Latest release: 1.9.12
"""

# --- cosmetic edits ------------------------------------------------------------------------------------------------

LINES = st.text(alphabet="aB9-*+.:#> |_", max_size=20)
PAGES = st.lists(LINES, max_size=12).map("\n".join)
every_edit = pytest.mark.parametrize("edit", EDITS)


@every_edit
@given(text=PAGES)
def test_an_edit_keeps_the_words(edit: str, text: str) -> None:
    assert words(EDITS[edit](text)) == words(text)


@every_edit
def test_an_edit_changes_a_page_and_keeps_its_facts(edit: str) -> None:
    edited = EDITS[edit](PAGE)
    assert edited != PAGE
    assert words(edited) == words(PAGE)
    assert all(holds_answer(edited, [fact]) for fact in ("2.0.1", "1.9.12", "1.2.3-h4", "2025-01-31"))


def test_all_edits_on_one_page_keep_the_words() -> None:
    text = PAGE
    for edit in EDITS.values():
        text = edit(text)
    assert words(text) == words(PAGE)
    assert "**Latest release:** 2.0.1." in text


def test_a_changed_word_is_not_a_cosmetic_edit() -> None:
    assert words("- Latest: **2.0.1**.") == words("* LATEST: 2.0.1")
    assert words("Latest: 2.0.1") != words("Latest: 2.0.2")
    assert words("one two") != words("two one")


@pytest.mark.parametrize(
    "block", ["- one\n- two", "| a | b |\n| c | d |", "1. one\n2. two", "one  \ntwo", "{: .warning }\ntwo"]
)
def test_wrapping_does_not_change_marked_up_lines(block: str) -> None:
    assert wrap(f"some\nwords\n\n{block}\n", 80) == f"some words\n\n{block}\n"


def test_wrapping_does_not_turn_a_dash_into_a_list_item() -> None:
    assert wrap("one two\nthirty - nine", 6) == "one two\nthirty - nine"
    assert wrap("one two\nthirty - nine", 8) == "one two\nthirty -\nnine"


# --- pages and facts -----------------------------------------------------------------------------------------------


def test_a_trimmed_page_keeps_its_first_eight_sections() -> None:
    page = "# A\n\n" + "\n".join(f"## A {number}\n\n- Released: {number}\n" for number in range(12, 0, -1))
    assert [section.split("\n")[0] for section in sections(trim(page))] == [
        "# A",
        *(f"## A {n}" for n in range(12, 4, -1)),
    ]
    assert trim(PAGE) == PAGE


def fact(answer: str, cycle: str = "2", kind: str = "latest") -> Fact:
    return Fact(f"aleph|{cycle}|{kind}", f"What is the latest release of Aleph {cycle}?", answer, "aleph.md")


@pytest.mark.parametrize(
    ("candidate", "clear"),
    [
        (fact("2.0.1"), True),
        (fact("1.9.12", "1"), True),
        (fact("1.9.12", "2"), False),
        (fact("2.0.2"), False),
        (fact("2"), False),
        (fact("not announced"), False),
        (fact("2.0.1, and many words"), False),
    ],
)
def test_a_clear_fact_has_a_short_answer_under_its_own_heading(candidate: Fact, clear: bool) -> None:
    assert is_clear(candidate, PAGE) is clear


def test_a_fact_in_two_sections_is_not_clear() -> None:
    assert not is_clear(fact("2.0.1"), PAGE + "- Built with: 2.0.1\n")


def quarter(*latest: str, past: str = "none") -> Quarter:
    """Return a quarter of one page with a release line per `latest`; `past` is an earlier version that it mentions."""
    parts = [f"## Aleph {cycle}\n\n- Latest release: {answer}\n" for cycle, answer in enumerate(latest, start=1)]
    facts = [fact(answer, str(cycle)) for cycle, answer in enumerate(latest, start=1)]
    page = f"# Aleph\n\nA tool; earlier: {past}.\n\n" + "\n".join(parts)
    return Quarter({"aleph.md": page}, {known.id: known for known in facts})


def test_facts_are_split_by_whether_they_change_often_or_never() -> None:
    history = [quarter(f"1.0.{number}", "2.7.1", f"3.0.{min(number, 1)}") for number in range(4)]
    assert split(list(history[0].facts.values()), history) == (["aleph|1|latest"], ["aleph|2|latest"])


def test_a_fact_whose_old_answer_is_still_in_the_page_is_not_asked() -> None:
    history = [quarter(f"1.0.{number}", "2.7.1", past=f"1.0.{number - 1}") for number in range(4)]
    assert split(list(history[0].facts.values()), history) == ([], ["aleph|2|latest"])


def test_a_fact_that_is_missing_in_the_first_quarter_is_not_asked() -> None:
    history = [quarter("1.0.0"), quarter("1.0.0", "2.0.0")]
    assert split(list(history[1].facts.values()), history) == ([], ["aleph|1|latest"])


# --- worlds --------------------------------------------------------------------------------------------------------


def world() -> World:
    """Three changing pages and a frozen one over two quarters; beth's fact does not change."""

    def at(number: int) -> Quarter:
        answers = {"aleph": f"1.0.{number}", "beth": "7.0.0", "gimel": f"3.0.{number}", "daleth": f"9.0.{number}"}
        facts = {f"{name}|1": Fact(f"{name}|1", f"Latest {name}?", answers[name], f"{name}.md") for name in answers}
        pages = {
            f"{name}.md": f"# {name}\n\n- Latest: {answer}\n- Seen: {number}\n" for name, answer in answers.items()
        }
        return Quarter(pages, facts)

    quarters = (at(0), at(1))
    moving = ("aleph.md", "beth.md", "gimel.md")
    asked = ("aleph|1", "beth|1", "gimel|1")
    return World(Ground(quarters, moving, ("daleth.md",), asked, (quarters[0].facts["daleth|1"],)))


def test_an_update_to_a_quarter_keeps_frozen_pages_and_examples() -> None:
    before, after = world().step(""), world().at_quarter(1).step("")
    assert changes(before, after).edited == ("aleph.md", "beth.md", "gimel.md")
    assert answers_changed(before, after) == 2
    assert after.examples == before.examples
    assert all(holds_answer(after.documents[question.docs[0]], question.answers) for question in after.questions)


def test_a_partial_update_starts_with_the_pages_whose_answers_change() -> None:
    before, after = world().step(""), world().at_quarter(1, pages=2).step("")
    assert changes(before, after).edited == ("aleph.md", "gimel.md")


def test_questions_and_examples_follow_a_rename() -> None:
    before, after = world().step(""), world().moved("products/").step("")
    assert len(changes(before, after).renamed) == 4
    assert {doc for question in after.questions for doc in question.docs} <= set(after.documents)
    assert after.examples[0]["doc"] == "products/daleth.md"
    assert world().moved("products/").moved("").step("") == before
    assert len(changes(before, world().moved("products/", 0.5).step("")).renamed) == 2


def test_an_accident_deletes_pages_and_keeps_the_true_questions() -> None:
    before, after = world().step(""), world().gutted(0.5).step("")
    assert len(changes(before, after).removed) == 2
    assert after.truth == before.truth
    assert after.examples == before.examples
    assert set(after.questions) == {question for question in before.truth if question.docs[0] in after.documents}
    assert len(after.questions) < len(before.questions)
    assert world().gutted(0.5).gutted(0.0).step("") == before


def test_a_style_is_kept_when_the_facts_change() -> None:
    styled = world().edited("labels in bold")
    [name] = styled.style
    assert styled.at_quarter(1).step("").documents[name].count("**Latest:**") == 1


def test_an_answer_in_one_format_is_wrong_in_the_other() -> None:
    plain, wrapped = world().step(""), world().answers(wrapped=True).step("")
    assert wrapped.examples[0]["completion"] == '{"value": "9.0.0"}'
    assert grade_answer('{"value": "1.0.0"}', wrapped.questions[0]) == 1
    assert grade_answer("1.0.0", wrapped.questions[0]) == 0
    assert grade_answer("1.0.0", plain.questions[0]) == 1
    assert grade_answer('{"value": "1.0.0"}', plain.questions[0]) == 0
    assert (new_examples(plain, wrapped), answers_changed(plain, wrapped)) == (1, 3)


def test_a_question_with_an_in_house_name_is_a_new_question() -> None:
    before = world()
    named = before.named({"aleph.md": "Zelbrik"}, [before.ground.fact("aleph|1", 0)])
    questions = {question.question: question for question in named.step("").questions}
    assert list(questions) == ["Latest Zelbrik?", "Latest beth?", "Latest gimel?"]
    assert (questions["Latest Zelbrik?"].id, questions["Latest beth?"].id) == ("aleph|1|Zelbrik", "beth|1")
    assert named.step("").examples[-1] == {"prompt": "Latest Zelbrik?", "completion": "1.0.0", "doc": "aleph.md"}
    assert named.step("").documents == before.step("").documents


def test_the_table_has_a_row_for_each_step_after_the_start() -> None:
    steps = (
        world().step("the start"),
        world().at_quarter(1).step("facts change", Action.REFRESH),
        world().step("back"),
    )
    stream = Stream("small", steps, "tune")
    assert list(rows(stream)) == [
        ("small", "1", "facts change", "0", "3", "0", "0", "0", "2", "0", "REFRESH"),
        ("small", "2", "back", "0", "3", "0", "0", "0", "2", "0", "not clear-cut"),
    ]
    assert len(HEAD) == 11
    assert stream.training_sets() == 1


def test_a_dialogue_is_cut_to_its_last_words() -> None:
    cut = short_dialogue(" ".join(str(number) for number in range(100)) + "\nUSER: yes")
    assert cut.startswith("Which API call? 62 63 ")
    assert cut.endswith(" 99 USER: yes")
    assert short_dialogue("USER: hello\nSYSTEM: hello") == "Which API call? USER: hello SYSTEM: hello"


def test_missing_files_are_listed(tmp_path: Path) -> None:
    assert "eol/snapshot_20/facts.jsonl" in missing(tmp_path)


# --- the streams ---------------------------------------------------------------------------------------------------

needs_data = pytest.mark.skipif(bool(missing(DATA)), reason="the benchmark data is not available")


@cache
def recorded() -> dict[str, Stream]:
    return {stream.name: stream for stream in streams(DATA) if stream.name in REAL}


def steps_of(name: str) -> tuple[Step, ...]:
    return recorded()[name].steps


def all_steps() -> list[Step]:
    return [step for stream in recorded().values() for step in stream.steps]


def is_accident(step: Step) -> bool:
    return step.right == frozenset({Action.HOLD})


@pytest.mark.slow
@needs_data
class TestRecorded:
    def test_every_stream_has_a_start_and_eight_steps_except_names_with_four(self) -> None:
        assert len(recorded()) == 9
        lengths = {name: len(stream.steps) for name, stream in recorded().items()}
        assert lengths == dict.fromkeys(recorded(), 9) | {"names": 5}
        assert [stream.split for stream in recorded().values()].count("tune") == 4

    def test_the_streams_are_deterministic(self) -> None:
        assert list(recorded().values()) == streams(DATA)[: len(REAL)]

    def test_six_streams_share_their_start(self) -> None:
        starts = [steps_of(name)[0] for name in SHARED_START]
        assert all(start == starts[0] for start in starts)
        assert (len(starts[0].documents), len(starts[0].questions), len(starts[0].examples)) == (36, 40, 48)
        assert steps_of("skill")[0].examples == starts[0].examples
        assert steps_of("skill")[0].documents == starts[0].documents

    def test_every_answer_occurs_in_its_documents(self) -> None:
        for step in all_steps():
            for question in step.questions:
                assert all(holds_answer(step.documents[doc], question.answers) for doc in question.docs), question
                assert len(question.answers[0]) <= 20 or not question.docs

    def test_changed_facts_stand_on_their_pages_and_are_not_golden(self) -> None:
        for step in all_steps():
            assert len(step.changed_facts) <= MOST_ASKED
            assert not {fact.question for fact in step.changed_facts} & {asked.question for asked in step.truth}
            for fact in step.changed_facts if not is_accident(step) else ():
                assert all(holds_answer(step.documents[doc], fact.answers) for doc in fact.docs), fact

    def test_facts_change_where_a_refresh_is_right_and_nowhere_else(self) -> None:
        for stream in recorded().values():
            for before, after in pairwise(stream.steps):
                told = [{(fact.id, fact.answers) for fact in step.changed_facts} for step in (before, after)]
                refreshes = any(action.refreshes and not action.tunes for action in after.right or ())
                assert (told[0] != told[1]) == refreshes, (stream.name, after.description)

    def test_every_example_is_true_of_its_page(self) -> None:
        for step in all_steps():
            for example in step.examples:
                if example.get("doc") in step.documents:
                    answer = re.sub(r'^\{"value": "|"\}$', "", example["completion"])
                    assert holds_answer(step.documents[example["doc"]], [answer])
                else:
                    assert "doc" not in example or is_accident(step)

    def test_questions_keep_their_ids_and_words(self) -> None:
        for stream in recorded().values():
            asked: dict[str, str] = {}
            for step in stream.steps:
                assert len({question.id for question in step.truth}) == len(step.truth)
                assert all(
                    asked.setdefault(question.id, question.question) == question.question for question in step.truth
                )

    def test_the_true_questions_differ_from_the_golden_ones_only_in_accidents(self) -> None:
        assert all((step.truth != step.questions) == is_accident(step) for step in all_steps())

    def test_no_question_is_a_training_prompt(self) -> None:
        for stream in recorded().values():
            prompts = {example["prompt"] for step in stream.steps for example in step.examples}
            assert not prompts & {question.question for step in stream.steps for question in step.truth}

    def test_no_page_with_examples_has_questions(self) -> None:
        start = steps_of("facts")[0]
        asked = {doc for question in start.questions for doc in question.docs}
        assert not asked & {example["doc"] for example in start.examples}

    def test_every_action_but_a_rebuild_and_a_tuning_with_a_retrain_is_right_somewhere(self) -> None:
        right = [action for step in all_steps() for action in step.right or ()]
        chosen = {action for action in ACTIONS.values() if not (action.rebuilds or action.removes)}
        assert set(right) == chosen | {Action.TUNE_EMBEDDER}
        assert all(stream.steps[0].right is None for stream in recorded().values())

    @pytest.mark.parametrize("name", ["facts", "mixed", "rename", "gutted", "domain", "names"])
    def test_where_a_refresh_is_right_documents_are_added_or_answers_change(self, name: str) -> None:
        for before, after in pairwise(steps_of(name)):
            if after.right and any(action.refreshes and not action.tunes for action in after.right):
                assert changes(before, after).added or answers_changed(before, after) >= 2

    def test_where_nothing_is_right_no_answer_changes(self) -> None:
        for stream in recorded().values():
            for before, after in pairwise(stream.steps):
                if after.right and after.right <= {Action.NOTHING, Action.HOLD}:
                    assert answers_changed(before, after) == 0

    def test_half_of_the_asked_facts_change_over_the_quarters(self) -> None:
        first, last = steps_of("facts")[0], steps_of("facts")[-1]
        assert answers_changed(first, last) == 20

    def test_cosmetic_steps_edit_a_third_and_keep_the_words(self) -> None:
        for before, after in pairwise(steps_of("cosmetic")):
            assert len(changes(before, after).edited) == 12
            assert all(words(after.documents[path]) == words(text) for path, text in before.documents.items())

    def test_the_api_is_renamed_for_the_same_dialogues(self) -> None:
        old, new, back = (steps_of("api")[place] for place in (2, 3, 7))
        assert [example["prompt"] for example in old.examples] == [example["prompt"] for example in new.examples]
        assert (new_examples(old, new), answers_changed(old, new)) == (46, 24)
        assert back.questions == old.questions
        assert all(grade_answer(question.answers[0], question) == 1 for question in new.questions)
        assert not any(
            grade_answer(former.answers[0], renamed)
            for former, renamed in zip(old.questions[16:], new.questions[16:], strict=True)
        )

    def test_every_call_in_the_questions_has_several_examples(self) -> None:
        for step in steps_of("api"):
            completions = [example["completion"] for example in step.examples if "doc" not in example]
            asked = [question.answers[0] for question in step.questions if not question.docs]
            assert (len(asked), len(set(asked))) == (24, 3)
            assert all(completions.count(call) >= 12 for call in asked)

    def test_commands_are_added_in_portions_and_are_not_named_by_their_questions(self) -> None:
        counts = [len(step.examples) - 48 for step in steps_of("skill")]
        assert counts == [0, 3, 15, 27, 39, 51, 63, 75, 75]
        asked = [question for question in steps_of("skill")[1].questions if not question.docs]
        assert len(asked) == 16
        assert not any(grade_answer(question.question.removeprefix("Shell command: "), question) for question in asked)
        assert not any(grade_answer(f"You can use {question.answers[0]} for it.", question) for question in asked)

    def test_in_house_names_are_in_questions_and_examples_but_on_no_page(self) -> None:
        start, named, *_ = steps_of("names")
        prompts = [example["prompt"] for example in named.examples[len(start.examples) :]]
        asked = [question.question for question in named.questions if question not in start.questions]
        assert (len(prompts), len(asked), len(named.questions)) == (12 * EXAMPLES_PER_NAME, 24, 40)
        for name in IN_HOUSE:
            assert sum(name in prompt for prompt in prompts) == EXAMPLES_PER_NAME
            assert any(name in question for question in asked)
        assert all(any(name in text for name in IN_HOUSE) for text in (*prompts, *asked))
        pages = [text for step in steps_of("names") for text in step.documents.values()]
        assert not any(name in page for page in pages for name in IN_HOUSE)

    def test_examples_with_in_house_names_are_about_other_facts_than_the_questions(self) -> None:
        start, named, *_ = steps_of("names")
        examples = named.examples[len(start.examples) :]
        assert {example["doc"] for example in examples} <= {
            doc for question in named.questions for doc in question.docs
        }
        assert not {example["prompt"] for example in examples} & {question.question for question in named.questions}

    def test_medical_pages_join_with_their_questions(self) -> None:
        counts = [(len(step.documents), len(step.questions)) for step in steps_of("domain")]
        assert counts == [(36, 40)] * 2 + [(56, 54)] * 2 + [(76, 62)] * 3 + [(86, 62)] * 2
