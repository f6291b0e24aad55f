"""Tests of training examples: parsing, validation issues, invariants of the validation and strict mode."""

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
    {"prompt": PROMPTS, "completion": COMPLETIONS}, optional={"doc": st.sampled_from(["a.md", "b.md", "deleted.md"])}
)
LINES = st.lists(ROWS.map(json.dumps) | st.sampled_from(["{", "[]", "{}"]), max_size=12)


def read(folder: Path, **files: str) -> list[Example | DataIssue]:
    """Write `files` (name without ending -> text) and read them as a snapshot names them."""
    paths = {f"{name}.jsonl": text for name, text in files.items()}
    for path, text in paths.items():
        write(folder / path, text)
    return read_examples(folder, {path: md5(text) for path, text in paths.items()})


def examples(folder: Path, **files: str) -> list[Example]:
    """As `read`, for files whose lines are all valid examples."""
    lines = read(folder, **files)
    valid = [item for item in lines if isinstance(item, Example)]
    assert len(valid) == len(lines)
    return valid


def line(**fields: Any) -> str:
    return json.dumps(fields) + "\n"


def example(prompt: str, completion: str, doc: str | None = None, where: str = "a.jsonl:1") -> Example:
    return Example.of(TrainingLine(prompt=prompt, completion=completion, doc=doc), where)


def validated(*lines: Example | DataIssue, params: Params = PARAMS) -> ValidatedExamples:
    return validate_examples(lines, PAGES, GOLDEN, params)


def issues(result: ValidatedExamples) -> list[tuple[str, str]]:
    return [(issue.where, issue.kind.value) for issue in result.filtered]


# --- lines ---------------------------------------------------------------------------------------------------------


def test_a_prompt_and_its_completion_are_one_turn_and_the_answer(tmp_path: Path) -> None:
    [item] = examples(tmp_path, a=line(prompt="When?", completion="Now.", doc="a.md", id="x1"))
    assert item == Example((Message("user", "When?"),), "Now.", "a.md")
    assert item.question == "When?"
    assert item.where == "a.jsonl:1"


def test_messages_are_the_turns_before_the_last_answer(tmp_path: Path) -> None:
    talk = [{"role": "system", "content": "Be brief."}, ASKED, {"role": "assistant", "content": "Soon."}, ASKED]
    [item] = examples(tmp_path, a=line(messages=[*talk, ANSWERED]))
    assert item == Example(tuple(Message(**turn) for turn in talk), "Now.", None)
    assert item.question == "When?"


def test_both_forms_mean_the_same(tmp_path: Path) -> None:
    first, second = examples(tmp_path, a=line(prompt="When?", completion="Now.") + line(messages=[ASKED, ANSWERED]))
    assert first == second


def test_the_same_example_has_the_same_digest_in_either_form_and_any_file(tmp_path: Path) -> None:
    [first] = examples(tmp_path / "one", a=line(prompt="When?", completion="Now.", doc="a.md", id="x1"))
    [again] = examples(tmp_path / "two", b=line(messages=[ASKED, ANSWERED], doc="a.md"))
    assert first.digest == again.digest
    assert re.fullmatch("[0-9a-f]{12}", first.digest)


def test_the_digest_depends_on_the_whole_conversation_and_the_answer() -> None:
    asked, other = Message("user", "When?"), Message("user", "Where?")
    different = [
        Example((asked,), "Now.", None),
        Example((asked,), "Soon.", None),
        Example((other,), "Now.", None),
        Example((Message("system", "When?"),), "Now.", None),
        Example((asked, other), "Now.", None),
        Example((other, asked), "Now.", None),
    ]
    assert len({item.digest for item in different}) == len(different)


def test_the_digest_does_not_depend_on_the_page() -> None:
    turns = (Message("user", "When?"),)
    assert len({Example(turns, "Now.", doc).digest for doc in (None, "a.md", "moved/a.md")}) == 1


def test_lines_come_in_order_of_file_and_line_without_blank_lines(tmp_path: Path) -> None:
    lines = [line(prompt=f"Q{number}", completion="A") for number in range(4)]
    files = {"b": lines[2] + "\n   \n" + lines[3], "a": "\ufeff" + lines[0] + "\r\n" + lines[1].rstrip("\n")}
    ordered = examples(tmp_path, **files)
    assert [item.question for item in ordered] == ["Q0", "Q1", "Q2", "Q3"]
    assert [item.where for item in ordered] == ["a.jsonl:1", "a.jsonl:3", "b.jsonl:1", "b.jsonl:4"]


GOOD = line(prompt="When?", completion="Now.")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("{not json}\n", "is not JSON"),
        ("[1, 2]\n", "fix the line"),
        ('"text"\n', "fix the line"),
        ("{}\n", "should have prompt and completion, or messages"),
        (line(prompt="When?"), "should have prompt and completion, or messages"),
        (line(completion="Now."), "should have prompt and completion, or messages"),
        (line(prompt="", completion="Now."), "prompt: is empty"),
        (line(prompt="When?", completion=""), "completion: is empty"),
        (line(prompt=" \t\n", completion="Now."), "prompt: contains only white space"),
        (line(prompt="When?", completion="\u00a0"), "completion: contains only white space"),
        (line(prompt="When?", completion=3), "completion"),
        (line(prompt="When?", completion="Now.", documents="a.md"), "documents"),
        (line(prompt="When?", completion="Now.", doc=["a.md"]), "doc"),
        (line(prompt="When?", completion="Now.", messages=[ASKED, ANSWERED]), "should have prompt and completion"),
        (line(prompt="When?", messages=[ASKED, ANSWERED]), "should have prompt and completion"),
        (line(messages=[]), "should have prompt and completion, or messages"),
        (line(messages=[ASKED]), "should end with a user turn"),
        (line(messages=[ANSWERED]), "should end with a user turn"),
        (line(messages=[ANSWERED, ASKED]), "should end with a user turn"),
        (line(messages=[ASKED, ANSWERED, ANSWERED]), "should end with a user turn"),
        (line(messages=[{"role": "tool", "content": "x"}, ANSWERED]), "messages.0.role"),
        (line(messages=[{"role": "user", "content": ""}, ANSWERED]), "messages.0.content"),
        (line(messages=[{"role": "user"}, ANSWERED]), "messages.0.content"),
        (line(messages="When?"), "messages"),
    ],
)
def test_an_invalid_line_is_an_issue_by_file_and_number_and_affects_no_other(
    tmp_path: Path, bad: str, reason: str
) -> None:
    first, second, issue, last = read(tmp_path, a=GOOD, b=GOOD + "\n" + bad + GOOD)
    assert [item.where for item in (first, second, issue, last)] == [
        "a.jsonl:1",
        "b.jsonl:1",
        "b.jsonl:3",
        "b.jsonl:4",
    ]
    assert isinstance(issue, DataIssue)
    assert issue.kind is IssueKind.INVALID_LINE
    assert reason in issue.why
    assert "\n" not in issue.why
    assert all(isinstance(item, Example) for item in (first, second, last))


def test_a_line_in_another_encoding_affects_no_other(tmp_path: Path) -> None:
    content = GOOD.encode() + b'{"prompt": "\xe9", "completion": "x"}\n' + GOOD.encode()
    write(tmp_path / "a.jsonl", content)
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    first, second, third = read_examples(tmp_path, {"a.jsonl": digest})
    assert isinstance(second, DataIssue)
    assert second.why.startswith("is not UTF-8 (byte 12)")
    assert isinstance(first, Example)
    assert isinstance(third, Example)


def test_a_file_that_changed_since_the_snapshot_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", GOOD)
    with pytest.raises(UserError, match=r"a\.jsonl changed while it was being read"):
        read_examples(tmp_path, {"a.jsonl": md5("before")})


def test_other_files_in_the_folder_are_not_examples(tmp_path: Path) -> None:
    write(tmp_path / "README.md", "no examples")
    assert read_examples(tmp_path, {"README.md": md5("no examples")}) == []


# --- issues of single examples -------------------------------------------------------------------------------------


def test_a_question_like_a_golden_one_is_a_leak() -> None:
    result = validated(example("When does quill 1.2 end", "2026-05-01", "a.md"))
    assert issues(result) == [("a.jsonl:1", "leak")]
    assert '"When does Quill 1.2 end?"' in result.filtered[0].why
    assert result.examples == ()


def test_the_similarity_of_a_leak_is_a_setting() -> None:
    item = example("When does Quill 1.2 come to an end?", "2026-05-01", "a.md")
    strict = Params.model_validate({"examples": {"leak_similarity": 0.6}})
    assert validated(item).examples == (item,)
    assert issues(validated(item, params=strict)) == [("a.jsonl:1", "leak")]


def test_an_answer_with_a_value_that_its_page_lacks_is_stale() -> None:
    result = validated(example("When is it over?", '{"end": "2025-05-01"}', "a.md"))
    assert issues(result) == [("a.jsonl:1", "stale answer")]
    assert {"2025-05-01", "a.md"} <= set(re.findall(r"[\w.-]+", result.filtered[0].why))


@pytest.mark.parametrize(
    ("completion", "doc"),
    [("2026-05-01", "a.md"), ("never, they say", "a.md"), ("2025-05-01", None), ("1.2 ends on May 1, 2026", "a.md")],
    ids=["on its page", "no number", "of no page", "written otherwise"],
)
def test_an_answer_that_its_page_does_not_contradict_is_valid(completion: str, doc: str | None) -> None:
    item = example("When is it over?", completion, doc)
    assert validated(item) == ValidatedExamples((item,), (), ())


@pytest.mark.parametrize(
    ("completion", "stale"),
    [
        ("Ann Miller", True),
        ("/var/lib", True),
        ("Quills", False),
        ("the Quill's", False),
        ("Unrelated", False),
        ("nothing of it", False),
        ("Yes", False),
        ('{"chair": "Ann Miller"}', False),
        ("Ann Miller and seven others of the board were there", False),
    ],
)
def test_a_short_answer_that_looks_like_a_fact_of_another_page_is_stale(completion: str, stale: bool) -> None:
    result = validated(example("When is it over?", completion, "a.md"))
    assert issues(result) == ([("a.jsonl:1", "stale answer")] if stale else [])
    assert validated(example("When is it over?", completion)).filtered == ()


def test_an_answer_with_at_least_max_tokens_words_is_overlong() -> None:
    fits, over = example("Say it.", "word " * 11), example("Say more.", "word " * 12, where="a.jsonl:2")
    result = validated(fits, over)
    assert result.examples == (fits,)
    assert result.filtered[0].kind is IssueKind.OVERLONG
    assert "finetune.max_tokens = 12" in result.filtered[0].why


def test_an_example_of_a_deleted_page_is_an_orphan_without_an_issue() -> None:
    item = example("When is it over?", "2025-05-01", "deleted.md")
    assert validated(item) == ValidatedExamples((), (item,), ())


# --- issues between examples ---------------------------------------------------------------------------------------


def test_the_first_of_duplicates_is_kept() -> None:
    lines = [
        example("How?", "So.", where="a.jsonl:1"),
        example("How?", "So.\n", where="a.jsonl:2"),
        example(" How? ", "So.", "b.md", where="b.jsonl:1"),
        example("how?", "So.", where="b.jsonl:2"),
    ]
    result = validated(*lines)
    assert result.examples == (lines[0], lines[3])
    assert issues(result) == [("a.jsonl:2", "duplicate"), ("b.jsonl:1", "duplicate")]
    assert "a.jsonl:1" in result.filtered[0].why


def contradictory() -> list[Example]:
    """Three lines that answer one question, two of them alike, and one line without a contradiction."""
    return [
        example("How?", "So.", where="a.jsonl:1"),
        example("How?", "So.", where="a.jsonl:2"),
        example("How?", "Thus.", where="b.jsonl:1"),
        example("Why?", "So.", where="b.jsonl:2"),
    ]


def test_contradictory_examples_are_all_filtered() -> None:
    lines = contradictory()
    result = validated(*lines)
    assert result.examples == (lines[3],)
    assert {issue.kind for issue in result.filtered} == {IssueKind.CONTRADICTION}
    assert [issue.why.split()[0] for issue in result.filtered] == ["b.jsonl:1", "b.jsonl:1", "a.jsonl:1"]


def test_contradictions_are_kept_and_listed_under_the_keep_setting() -> None:
    lines = [*contradictory(), example("Why?", "So.", where="b.jsonl:3")]
    result = validate_examples(lines, {}, (), KEEPING)
    assert result.examples == (lines[0], lines[2], lines[3])
    assert issues(result) == [("a.jsonl:2", "duplicate"), ("b.jsonl:3", "duplicate")]
    assert [(issue.where, issue.kind, issue.why.split()[0]) for issue in result.contradictory] == [
        ("a.jsonl:1", "contradiction", "b.jsonl:1"),
        ("b.jsonl:1", "contradiction", "a.jsonl:1"),
    ]
    assert validated(*lines).contradictory == ()


def test_a_kept_contradiction_is_no_error_in_strict_mode() -> None:
    strict = KEEPING.model_copy(update={"examples": KEEPING.examples.model_copy(update={"on_invalid": "refuse"})})
    result = validate_examples([example("How?", answer, where=f"a.jsonl:{answer}") for answer in "12"], {}, (), strict)
    assert len(result.contradictory) == 2
    require_valid(result.filtered, strict)


def test_a_stale_answer_contradicts_no_other() -> None:
    old, new = (example("When is it over?", f"202{year}-05-01", "a.md", f"a.jsonl:{year}") for year in (5, 6))
    result = validated(old, new)
    assert result.examples == (new,)
    assert issues(result) == [("a.jsonl:5", "stale answer")]


def test_an_orphan_is_not_compared_with_other_examples() -> None:
    orphan = example("How many?", "12", "deleted.md", "a.jsonl:1")
    others = [example("How many?", "12", "b.md", "a.jsonl:2"), example("How?", "So.", None, "a.jsonl:3")]
    assert validated(orphan, *others) == ValidatedExamples(tuple(others), (orphan,), ())


def test_the_conversation_before_the_question_counts() -> None:
    turns = [(Message("system", system), Message("user", "How?")) for system in ("Be brief.", "Be kind.")]
    lines = [Example(both, f"So {at}.", None, f"a.jsonl:{at}") for at, both in enumerate(turns)]
    assert validated(*lines).examples == tuple(lines)


# --- invariants ----------------------------------------------------------------------------------------------------


def all_of(lines: Sequence[str], folder: Path) -> list[Example | DataIssue]:
    return read(folder, a="\n".join(lines[::2]), b="\n".join(lines[1::2]))


law = settings(derandomize=True, deadline=None, max_examples=150)


@law
@given(LINES)
def test_every_line_is_an_example_an_orphan_or_has_one_issue(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    parsed = all_of(lines, tmp_path_factory.mktemp("lines"))
    result = validate_examples(parsed, PAGES, GOLDEN, PARAMS)
    parts = [*result.examples, *result.orphans, *result.filtered]
    assert sorted(item.where for item in parts) == sorted(item.where for item in parsed)
    assert len(parsed) == len(lines)


@law
@given(LINES)
def test_keeping_contradictions_adds_one_example_per_answer_and_changes_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    parsed = all_of(lines, tmp_path_factory.mktemp("lines"))
    without, kept = validate_examples(parsed, PAGES, GOLDEN, PARAMS), validate_examples(parsed, PAGES, GOLDEN, KEEPING)
    assert set(without.examples) <= set(kept.examples)
    added = {item.where for item in kept.examples} - {item.where for item in without.examples}
    assert {issue.where for issue in kept.contradictory} == added
    assert kept.orphans == without.orphans
    assert len(kept.examples) + len(kept.orphans) + len(kept.filtered) == len(parsed)


@law
@given(LINES)
def test_valid_examples_have_no_issue_when_validated_again(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    kept = validate_examples(all_of(lines, tmp_path_factory.mktemp("lines")), PAGES, GOLDEN, PARAMS).examples
    assert validate_examples(kept, PAGES, GOLDEN, PARAMS) == ValidatedExamples(kept, (), ())


@law
@given(LINES, st.randoms(use_true_random=False))
def test_the_order_of_lines_does_not_change_the_valid_examples(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], random: Any
) -> None:
    parsed = all_of(lines, tmp_path_factory.mktemp("lines"))
    mixed = random.sample(parsed, len(parsed))
    results = [validate_examples(order, PAGES, GOLDEN, PARAMS) for order in (parsed, mixed)]
    digests = [{item.digest for item in result.examples} for result in results]
    kinds = [sorted(issue.kind for issue in result.filtered) for result in results]
    assert digests[0] == digests[1]
    assert kinds[0] == kinds[1]


# --- strict mode ---------------------------------------------------------------------------------------------------

ISSUES = [DataIssue(where=f"a.jsonl:{at}", kind=IssueKind.LEAK, why="asks it") for at in range(1, 6)]


def params_with(on_invalid: str) -> Params:
    return Params.model_validate({"examples": {"on_invalid": on_invalid}})


def test_issues_are_an_error_in_strict_mode_that_lists_the_first_few() -> None:
    with pytest.raises(UserError) as raised:
        require_valid(ISSUES, params_with("refuse"))
    message = str(raised.value)
    assert message.startswith("5 training lines are ")
    assert "(a.jsonl:1: leak: asks it; a.jsonl:2: leak" in message
    assert "; and 2 more): " in message
    with pytest.raises(UserError, match=r"^1 training line is .* \(a\.jsonl:1: leak: asks it\):"):
        require_valid(ISSUES[:1], params_with("refuse"))


def test_issues_are_no_error_otherwise_and_no_issues_never_are() -> None:
    require_valid(ISSUES, params_with("skip"))
    require_valid([], params_with("refuse"))


@pytest.mark.parametrize(
    "line",
    [
        r'{"prompt": "When?", "completion": "half \ud800"}',
        r'{"messages": [{"role": "user", "content": "\udfff"}, {"role": "assistant", "content": "Now."}]}',
        '{"prompt": "When?", "completion": "Now.", "completion": "Later."}',
    ],
)
def test_a_line_with_half_a_character_or_a_key_twice_is_filtered_and_named(line: str, tmp_path: Path) -> None:
    good = json.dumps({"prompt": "When?", "completion": "Now."})
    first, issue, last = read(tmp_path, a=f"{good}\n{line}\n{good}\n")
    assert isinstance(first, Example)
    assert isinstance(last, Example)
    assert isinstance(issue, DataIssue)
    assert (issue.where, issue.kind) == ("a.jsonl:2", IssueKind.INVALID_LINE)


def test_half_a_character_inside_of_a_json_answer_stops_nothing(tmp_path: Path) -> None:
    completion = json.dumps({"value": "\ud800 7"})
    [example] = examples(tmp_path, a=json.dumps({"prompt": "When?", "completion": completion, "doc": "b.md"}))
    validated = validate_examples([example], PAGES, [], PARAMS)
    assert [issue.kind for issue in validated.filtered] == [IssueKind.STALE]
    for issue in validated.filtered:
        issue.model_dump_json()
