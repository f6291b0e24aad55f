"""Is every line of a training file an example or listed with what is wrong with it, and nothing wrong is learnt?"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.params import Params
from ragtide.pipelines.ports import Message
from ragtide.pipelines.records.data import DataIssue, IssueKind
from ragtide.pipelines.training.examples import (
    Example,
    TrainingLine,
    ValidatedExamples,
    read_examples,
    require_valid,
    validate_examples,
)
from tests.factories import md5, write

PARAMS = Params.model_validate({"finetune": {"max_tokens": 12}})
KEEPING = Params.model_validate({"finetune": {"max_tokens": 12}, "examples": {"contradictions": "keep"}})
PAGES = {"a.md": "# Quill 1.2\n\nEnds on 2026-05-01.", "b.md": "Seats: 12"}
GOLDEN = ["When does Quill 1.2 end?"]
ASKED = {"role": "user", "content": "When?"}
ANSWERED = {"role": "assistant", "content": "Now."}

PROMPTS = st.sampled_from(["When does Quill 1.2 end?", "When does Quill 1.3 end?", "How many seats?", "How?", " "])
COMPLETIONS = st.sampled_from(["2026-05-01", "2027-05-01", "12", "twelve", "", "word " * 12])
ROWS = st.fixed_dictionaries(
    {"prompt": PROMPTS, "completion": COMPLETIONS}, optional={"doc": st.sampled_from(["a.md", "b.md", "gone.md"])}
)
LINES = st.lists(ROWS.map(json.dumps) | st.sampled_from(["{", "[]", "{}"]), max_size=12)


def read(folder: Path, **files: str) -> list[Example | DataIssue]:
    """Write `files` (name without ending -> text) and read them as a snapshot names them."""
    paths = {f"{name}.jsonl": text for name, text in files.items()}
    for path, text in paths.items():
        write(folder / path, text)
    return read_examples(folder, {path: md5(text) for path, text in paths.items()})


def examples(folder: Path, **files: str) -> list[Example]:
    """As `read`, where every line is one."""
    found = read(folder, **files)
    assert all(isinstance(one, Example) for one in found)
    return [one for one in found if isinstance(one, Example)]


def line(**fields: Any) -> str:
    return json.dumps(fields) + "\n"


def taught(prompt: str, completion: str, doc: str | None = None, where: str = "a.jsonl:1") -> Example:
    return Example.of(TrainingLine(prompt=prompt, completion=completion, doc=doc), where)


def sifted(*lines: Example | DataIssue, params: Params = PARAMS) -> ValidatedExamples:
    return validate_examples(lines, PAGES, GOLDEN, params)


def flaws(found: ValidatedExamples) -> list[tuple[str, str]]:
    return [(one.where, one.kind.value) for one in found.filtered]


# --- a line --------------------------------------------------------------------------------------------------------


def test_a_prompt_and_its_completion_are_one_turn_and_the_answer(tmp_path: Path) -> None:
    [one] = examples(tmp_path, a=line(prompt="When?", completion="Now.", doc="a.md", id="x1"))
    assert one == Example((Message("user", "When?"),), "Now.", "a.md")
    assert one.question == "When?"
    assert one.where == "a.jsonl:1"


def test_messages_are_the_turns_before_the_last_answer(tmp_path: Path) -> None:
    talk = [{"role": "system", "content": "Be brief."}, ASKED, {"role": "assistant", "content": "Soon."}, ASKED]
    [one] = examples(tmp_path, a=line(messages=[*talk, ANSWERED]))
    assert one == Example(tuple(Message(**turn) for turn in talk), "Now.", None)
    assert one.question == "When?"


def test_both_forms_mean_the_same(tmp_path: Path) -> None:
    first, second = examples(tmp_path, a=line(prompt="When?", completion="Now.") + line(messages=[ASKED, ANSWERED]))
    assert first == second


def test_the_same_example_has_the_same_digest_in_either_form_and_any_file(tmp_path: Path) -> None:
    [first] = examples(tmp_path / "one", a=line(prompt="When?", completion="Now.", doc="a.md", id="x1"))
    [again] = examples(tmp_path / "two", b=line(messages=[ASKED, ANSWERED], doc="a.md"))
    assert first.digest == again.digest
    assert re.fullmatch("[0-9a-f]{12}", first.digest)


def test_whatever_an_example_teaches_is_in_its_digest() -> None:
    asked, other = Message("user", "When?"), Message("user", "Where?")
    different = [
        Example((asked,), "Now.", None),
        Example((asked,), "Soon.", None),
        Example((other,), "Now.", None),
        Example((Message("system", "When?"),), "Now.", None),
        Example((asked, other), "Now.", None),
        Example((other, asked), "Now.", None),
    ]
    assert len({one.digest for one in different}) == len(different)


def test_the_page_of_an_example_may_move_without_making_it_another_one() -> None:
    turns = (Message("user", "When?"),)
    assert len({Example(turns, "Now.", doc).digest for doc in (None, "a.md", "moved/a.md")}) == 1


def test_lines_come_in_order_of_file_and_line_and_blank_lines_are_nothing(tmp_path: Path) -> None:
    lines = [line(prompt=f"Q{number}", completion="A") for number in range(4)]
    files = {"b": lines[2] + "\n   \n" + lines[3], "a": "\ufeff" + lines[0] + "\r\n" + lines[1].rstrip("\n")}
    found = examples(tmp_path, **files)
    assert [one.question for one in found] == ["Q0", "Q1", "Q2", "Q3"]
    assert [one.where for one in found] == ["a.jsonl:1", "a.jsonl:3", "b.jsonl:1", "b.jsonl:4"]


GOOD = line(prompt="When?", completion="Now.")


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("{not json}\n", "is not JSON"),
        ("[1, 2]\n", "fix the line"),
        ('"text"\n', "fix the line"),
        ("{}\n", "should hold prompt and completion, or messages"),
        (line(prompt="When?"), "should hold prompt and completion, or messages"),
        (line(completion="Now."), "should hold prompt and completion, or messages"),
        (line(prompt="", completion="Now."), "prompt: is empty"),
        (line(prompt="When?", completion=""), "completion: is empty"),
        (line(prompt=" \t\n", completion="Now."), "prompt: holds nothing but white space"),
        (line(prompt="When?", completion="\u00a0"), "completion: holds nothing but white space"),
        (line(prompt="When?", completion=3), "completion"),
        (line(prompt="When?", completion="Now.", documents="a.md"), "documents"),
        (line(prompt="When?", completion="Now.", doc=["a.md"]), "doc"),
        (line(prompt="When?", completion="Now.", messages=[ASKED, ANSWERED]), "should hold prompt and completion"),
        (line(prompt="When?", messages=[ASKED, ANSWERED]), "should hold prompt and completion"),
        (line(messages=[]), "should hold prompt and completion, or messages"),
        (line(messages=[ASKED]), "should end with a user's turn and the assistant's answer"),
        (line(messages=[ANSWERED]), "should end with a user's turn and the assistant's answer"),
        (line(messages=[ANSWERED, ASKED]), "should end with a user's turn and the assistant's answer"),
        (line(messages=[ASKED, ANSWERED, ANSWERED]), "should end with a user's turn and the assistant's answer"),
        (line(messages=[{"role": "tool", "content": "x"}, ANSWERED]), "messages.0.role"),
        (line(messages=[{"role": "user", "content": ""}, ANSWERED]), "messages.0.content"),
        (line(messages=[{"role": "user"}, ANSWERED]), "messages.0.content"),
        (line(messages="When?"), "messages"),
    ],
)
def test_a_bad_line_is_listed_by_file_and_number_and_spoils_no_other(tmp_path: Path, bad: str, said: str) -> None:
    first, second, found, last = read(tmp_path, a=GOOD, b=GOOD + "\n" + bad + GOOD)
    assert [one.where for one in (first, second, found, last)] == [
        "a.jsonl:1",
        "b.jsonl:1",
        "b.jsonl:3",
        "b.jsonl:4",
    ]
    assert isinstance(found, DataIssue)
    assert found.kind is IssueKind.BAD_LINE
    assert said in found.why
    assert "\n" not in found.why
    assert all(isinstance(one, Example) for one in (first, second, last))


def test_a_line_in_another_encoding_spoils_no_other(tmp_path: Path) -> None:
    content = GOOD.encode() + b'{"prompt": "\xe9", "completion": "x"}\n' + GOOD.encode()
    write(tmp_path / "a.jsonl", content)
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    first, second, third = read_examples(tmp_path, {"a.jsonl": digest})
    assert isinstance(second, DataIssue)
    assert second.why.startswith("is not UTF-8 (byte 12)")
    assert isinstance(first, Example)
    assert isinstance(third, Example)


def test_a_file_that_changed_since_the_snapshot_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", GOOD)
    with pytest.raises(UserError, match=r"a\.jsonl changed while it was being read"):
        read_examples(tmp_path, {"a.jsonl": md5("before")})


def test_other_files_in_the_folder_are_not_examples(tmp_path: Path) -> None:
    write(tmp_path / "README.md", "no examples")
    assert read_examples(tmp_path, {"README.md": md5("no examples")}) == []


# --- what is wrong with an example by itself -----------------------------------------------------------------------


def test_what_asks_a_golden_question_is_a_leak() -> None:
    found = sifted(taught("When does quill 1.2 end", "2026-05-01", "a.md"))
    assert flaws(found) == [("a.jsonl:1", "leak")]
    assert 'asks what the golden question "When does Quill 1.2 end?" asks' in found.filtered[0].why
    assert found.examples == ()


def test_how_alike_a_leak_is_is_a_setting() -> None:
    one = taught("When does Quill 1.2 come to an end?", "2026-05-01", "a.md")
    strict = Params.model_validate({"examples": {"leak_similarity": 0.6}})
    assert sifted(one).examples == (one,)
    assert flaws(sifted(one, params=strict)) == [("a.jsonl:1", "leak")]


def test_an_answer_whose_value_left_its_page_is_stale() -> None:
    found = sifted(taught("When is it over?", '{"end": "2025-05-01"}', "a.md"))
    assert flaws(found) == [("a.jsonl:1", "stale answer")]
    assert found.filtered[0].why == "a.md says otherwise now: 2025-05-01 stands nowhere on it"


@pytest.mark.parametrize(
    ("completion", "doc"),
    [("2026-05-01", "a.md"), ("never, they say", "a.md"), ("2025-05-01", None), ("1.2 ends on May 1, 2026", "a.md")],
    ids=["on its page", "no number", "of no page", "written otherwise"],
)
def test_an_answer_that_its_page_does_not_deny_is_learnt(completion: str, doc: str | None) -> None:
    one = taught("When is it over?", completion, doc)
    assert sifted(one) == ValidatedExamples((one,), (), ())


def test_an_answer_of_more_words_than_there_may_be_tokens_is_overlong() -> None:
    fits, over = taught("Say it.", "word " * 11), taught("Say more.", "word " * 12, where="a.jsonl:2")
    found = sifted(fits, over)
    assert found.examples == (fits,)
    assert found.filtered[0].kind is IssueKind.OVERLONG
    assert "finetune.max_tokens = 12" in found.filtered[0].why


def test_an_example_whose_page_is_gone_is_an_orphan_and_no_flaw() -> None:
    one = taught("When is it over?", "2025-05-01", "gone.md")
    assert sifted(one) == ValidatedExamples((), (one,), ())


# --- what is wrong with an example beside the others ---------------------------------------------------------------


def test_of_examples_that_say_the_same_the_first_is_kept() -> None:
    lines = [
        taught("How?", "So.", where="a.jsonl:1"),
        taught("How?", "So.\n", where="a.jsonl:2"),
        taught(" How? ", "So.", "b.md", where="b.jsonl:1"),
        taught("how?", "So.", where="b.jsonl:2"),
    ]
    found = sifted(*lines)
    assert found.examples == (lines[0], lines[3])
    assert flaws(found) == [("a.jsonl:2", "duplicate"), ("b.jsonl:1", "duplicate")]
    assert found.filtered[0].why == "says the same as a.jsonl:1"


def contradictory() -> list[Example]:
    """Three lines that answer one question, two of them alike; and one that nobody contradicts."""
    return [
        taught("How?", "So.", where="a.jsonl:1"),
        taught("How?", "So.", where="a.jsonl:2"),
        taught("How?", "Thus.", where="b.jsonl:1"),
        taught("Why?", "So.", where="b.jsonl:2"),
    ]


def test_examples_that_contradict_each_other_are_all_left_out() -> None:
    lines = contradictory()
    found = sifted(*lines)
    assert found.examples == (lines[3],)
    assert {one.kind for one in found.filtered} == {IssueKind.CONTRADICTION}
    assert [one.why for one in found.filtered] == [
        "b.jsonl:1 answers otherwise: keep one",
        "b.jsonl:1 answers otherwise: keep one",
        "a.jsonl:1 answers otherwise: keep one",
    ]


def test_contradictions_are_all_kept_and_told_where_several_answers_may_be_right() -> None:
    lines = [*contradictory(), taught("Why?", "So.", where="b.jsonl:3")]
    found = validate_examples(lines, {}, (), KEEPING)
    assert found.examples == (lines[0], lines[2], lines[3])
    assert flaws(found) == [("a.jsonl:2", "duplicate"), ("b.jsonl:3", "duplicate")]
    assert [(one.where, one.kind, one.why) for one in found.contradictory] == [
        ("a.jsonl:1", "contradiction", "b.jsonl:1 answers otherwise: both are learnt"),
        ("b.jsonl:1", "contradiction", "a.jsonl:1 answers otherwise: both are learnt"),
    ]
    assert sifted(*lines).contradictory == ()


def test_a_contradiction_that_is_kept_is_no_reason_to_refuse() -> None:
    refusing = KEEPING.model_copy(update={"examples": KEEPING.examples.model_copy(update={"on_invalid": "refuse"})})
    found = validate_examples([taught("How?", answer, where=f"a.jsonl:{answer}") for answer in "12"], {}, (), refusing)
    assert len(found.contradictory) == 2
    require_valid(found.filtered, refusing)


def test_a_page_settles_which_of_two_answers_is_right() -> None:
    old, new = (taught("When is it over?", f"202{year}-05-01", "a.md", f"a.jsonl:{year}") for year in (5, 6))
    found = sifted(old, new)
    assert found.examples == (new,)
    assert flaws(found) == [("a.jsonl:5", "stale answer")]


def test_an_orphan_neither_contradicts_nor_is_kept_before_its_double() -> None:
    orphan = taught("How many?", "12", "gone.md", "a.jsonl:1")
    others = [taught("How many?", "12", "b.md", "a.jsonl:2"), taught("How?", "So.", None, "a.jsonl:3")]
    assert sifted(orphan, *others) == ValidatedExamples(tuple(others), (orphan,), ())


def test_the_conversation_before_the_question_counts() -> None:
    turns = [(Message("system", system), Message("user", "How?")) for system in ("Be brief.", "Be kind.")]
    lines = [Example(both, f"So {at}.", None, f"a.jsonl:{at}") for at, both in enumerate(turns)]
    assert sifted(*lines).examples == tuple(lines)


# --- laws ----------------------------------------------------------------------------------------------------------


def all_of(lines: Sequence[str], folder: Path) -> list[Example | DataIssue]:
    return read(folder, a="\n".join(lines[::2]), b="\n".join(lines[1::2]))


law = settings(derandomize=True, deadline=None, max_examples=150)


@law
@given(LINES)
def test_every_line_is_an_example_an_orphan_or_has_one_finding(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    found = all_of(lines, tmp_path_factory.mktemp("lines"))
    result = validate_examples(found, PAGES, GOLDEN, PARAMS)
    told = [*result.examples, *result.orphans, *result.filtered]
    assert sorted(one.where for one in told) == sorted(one.where for one in found)
    assert len(found) == len(lines)


@law
@given(LINES)
def test_to_keep_contradictions_adds_one_example_an_answer_and_takes_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    found = all_of(lines, tmp_path_factory.mktemp("lines"))
    without, kept = validate_examples(found, PAGES, GOLDEN, PARAMS), validate_examples(found, PAGES, GOLDEN, KEEPING)
    assert set(without.examples) <= set(kept.examples)
    more = {one.where for one in kept.examples} - {one.where for one in without.examples}
    assert {one.where for one in kept.contradictory} == more
    assert kept.orphans == without.orphans
    assert len(kept.examples) + len(kept.orphans) + len(kept.filtered) == len(found)


@law
@given(LINES)
def test_what_is_kept_has_no_finding_when_it_is_sifted_again(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    kept = validate_examples(all_of(lines, tmp_path_factory.mktemp("lines")), PAGES, GOLDEN, PARAMS).examples
    assert validate_examples(kept, PAGES, GOLDEN, PARAMS) == ValidatedExamples(kept, (), ())


@law
@given(LINES, st.randoms(use_true_random=False))
def test_the_order_of_lines_does_not_change_what_is_learnt(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], random: Any
) -> None:
    found = all_of(lines, tmp_path_factory.mktemp("lines"))
    mixed = random.sample(found, len(found))
    one, other = validate_examples(found, PAGES, GOLDEN, PARAMS), validate_examples(mixed, PAGES, GOLDEN, PARAMS)
    assert {example.digest for example in one.examples} == {example.digest for example in other.examples}
    assert sorted(one.kind for one in one.filtered) == sorted(one.kind for one in other.filtered)


# --- refusing ------------------------------------------------------------------------------------------------------

FINDINGS = [DataIssue(where=f"a.jsonl:{at}", kind=IssueKind.LEAK, why="asks it") for at in range(1, 6)]


def refusing(on_invalid: str) -> Params:
    return Params.model_validate({"examples": {"on_invalid": on_invalid}})


def test_flaws_are_refused_where_that_is_asked_for_with_the_first_few_and_what_to_do() -> None:
    with pytest.raises(UserError) as refusal:
        require_valid(FINDINGS, refusing("refuse"))
    message = str(refusal.value)
    assert message.startswith("5 training lines are not fit to learn from (a.jsonl:1: leak: asks it; a.jsonl:2: leak")
    assert "; and 2 more): mend or remove what `ragtide examples` lists, or set examples.on_invalid to skip" in message
    with pytest.raises(UserError, match=r"^1 training line is not fit to learn from \(a\.jsonl:1: leak: asks it\):"):
        require_valid(FINDINGS[:1], refusing("refuse"))


def test_flaws_are_passed_over_otherwise_and_none_refuse_nothing() -> None:
    require_valid(FINDINGS, refusing("skip"))
    require_valid([], refusing("refuse"))
