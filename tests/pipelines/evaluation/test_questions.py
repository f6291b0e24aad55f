"""Tests of the golden set: reading, invalid lines, stale questions and those of earlier snapshots."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.data.moves import DocumentPaths
from ragtide.pipelines.data.snapshot import compose_snapshot
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.evaluation.questions import (
    GoldenSet,
    earlier_questions,
    golden_wordings,
    read_golden,
    split_stale,
)
from ragtide.pipelines.records.evaluation import GoldenQuestion
from ragtide.pipelines.workspace import Workspace
from tests.factories import md5, question, workspace, write

TEXTS = {"a.md": "The limit is 42.", "b.md": "The limit is 43.", "empty.md": ""}
DOCS = st.lists(st.sampled_from([*TEXTS, "deleted.md"]), max_size=3).map(tuple)
QUESTIONS = st.lists(st.tuples(st.sampled_from(["42", "43", "44"]), DOCS), max_size=6)
GOOD = {"question": "What is the limit?", "answers": ["42"], "docs": ["a.md"]}


def read(folder: Path, texts: Mapping[str, str] = TEXTS, /, **files: list[object]) -> GoldenSet:
    """The golden set of `files`: name without ending -> lines; a string is written unchanged as a line."""
    lines = {
        f"{name}.jsonl": "\n".join(line if isinstance(line, str) else json.dumps(line) for line in content)
        for name, content in files.items()
    }
    for name, content in lines.items():
        write(folder / name, content)
    return read_golden(folder, {name: md5(content) for name, content in lines.items()}, texts)


def test_questions_come_in_order_of_file_and_line(tmp_path: Path) -> None:
    golden = read(tmp_path, z=[GOOD | {"id": "3"}], a=[GOOD | {"id": "1"}, GOOD | {"id": "2"}])
    assert [item.id for item in golden.questions] == ["1", "2", "3"]


def test_a_line_is_read_whole(tmp_path: Path) -> None:
    full = GOOD | {"id": "limit", "answers": ["42", "forty-two"], "format": r"\d+", "scorer": "exact"}
    [read_one] = read(tmp_path, a=[full]).questions
    assert read_one == GoldenQuestion(
        id="limit",
        question="What is the limit?",
        answers=("42", "forty-two"),
        docs=("a.md",),
        format=r"\d+",
        scorer="exact",
    )


def test_an_id_that_is_not_given_follows_from_question_and_documents(tmp_path: Path) -> None:
    others = [GOOD | {"docs": ["b.md"], "answers": ["43"]}, GOOD | {"question": "What limit is there?"}]
    ids = [item.id for item in read(tmp_path, a=[GOOD, *others]).questions]
    again = [item.id for item in read(tmp_path, b=[others[0], GOOD]).questions]
    assert len(set(ids)) == 3
    assert again == [ids[1], ids[0]]


def test_an_id_that_is_not_given_outlives_another_answer(tmp_path: Path) -> None:
    ids = [read(tmp_path, a=[GOOD | {"answers": [answer]}], b=[]).questions for answer in ("42", "The limit")]
    assert ids[0][0].id == ids[1][0].id


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        (GOOD | {"id": "x"}, {"id": "x", "question": "Another?", "answers": ["43"]}, "'x'"),
        (GOOD, GOOD | {"answers": ["43"]}, "'[0-9a-f]{12}'"),
    ],
    ids=["given", "not given"],
)
def test_a_duplicate_id_raises(first: object, second: object, name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"b\.jsonl:2: the id {name}"):
        read(tmp_path, a=[first], b=["", second])


@pytest.mark.parametrize("files", [{}, {"a": []}, {"a": ["", "  "]}], ids=["no file", "empty file", "blank lines"])
def test_a_golden_set_without_questions_raises_with_an_example_line(
    files: dict[str, list[object]], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"no golden questions.*{"):
        read(tmp_path, **files)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": ""}, "question: String should have at least 1 character"),
        ({"question": None}, "question: Input should be a valid string"),
        ({"answers": []}, "answers: Tuple should have at least 1 item"),
        ({"answers": "42"}, "answers: Input should be a valid tuple"),
        ({"answers": [""]}, "answers.0: String should have at least 1 character"),
        ({"answers": [42]}, "answers.0: Input should be a valid string"),
        ({"docs": [""]}, "docs.0: String should have at least 1 character"),
        ({"format": "("}, "format: not a regular expression (missing ), unterminated subpattern"),
        ({"format": "(([a-z])+.)+[A-Z]([a-z])+"}, "takes more than 1 s to match"),
        ({"question": "half \ud800"}, "contains half a character (\\ud800)"),
        ({"answer": "42"}, "answer: Extra inputs are not permitted"),
        ({"scorer": "fuzzy"}, "scorer: Input should be 'contains', 'exact'"),
        ({"scorer": "json_f1", "answers": ["{}", "no JSON"]}, "each of the answers must be JSON"),
    ],
)
def test_an_invalid_line_is_named_by_file_number_and_key(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as failure:
        read(tmp_path, a=[GOOD], b=[GOOD | {"id": "b"}, GOOD | change])
    assert f"b.jsonl:2: {message}" in str(failure.value)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("fields", "current"),
    [
        ({"docs": ("a.md",)}, True),
        ({"docs": ("b.md",)}, False),
        ({"docs": ("b.md", "a.md")}, True),
        ({"docs": ("deleted.md",)}, False),
        ({"docs": ("deleted.md", "a.md")}, True),
        ({"docs": ("empty.md",)}, False),
        ({"docs": ("b.md",), "answers": ("42", "43")}, True),
        ({"docs": ("a.md",), "answers": ("4",)}, False),
        ({"docs": ()}, True),
        ({"docs": ("a.md",), "scorer": "exact"}, True),
        ({"docs": ("a.md",), "scorer": "json_f1", "answers": ('{"limit": 42}',)}, True),
        ({"docs": ("b.md",), "scorer": "json_f1", "answers": ('{"limit": 42}',)}, False),
        ({"docs": ("a.md",), "scorer": "token_f1", "answers": ("It is at 42",)}, True),
        ({"docs": ("deleted.md",), "scorer": "token_f1", "answers": ("Low.",)}, False),
        ({"docs": ("a.md",), "answers": ("No",)}, True),
        ({"docs": ("deleted.md",), "answers": ("No",)}, False),
        ({"docs": ("a.md", "b.md"), "answers": ("42, 43",)}, True),
        ({"docs": ("a.md",), "answers": ("42, 43",)}, False),
        ({"docs": ("b.md",), "scorer": "judge", "answers": ("What nobody wrote",)}, True),
        ({"docs": ("a.md",), "answers": ("nowhere",), "passage": TEXTS["a.md"].split("\n")[-1]}, True),
        ({"docs": ("b.md",), "answers": ("43",), "passage": TEXTS["a.md"]}, False),
    ],
    ids=str,
)
def test_a_question_is_stale_where_none_of_its_documents_states_an_answer(
    fields: dict[str, object], current: bool
) -> None:
    golden = split_stale([question("q", **fields)], TEXTS)
    assert [item.id for item in golden.questions] == (["q"] if current else [])
    assert golden.stale == (() if current else ("q",))


@settings(derandomize=True, deadline=None)
@given(QUESTIONS)
def test_every_question_is_current_or_stale_and_the_order_is_kept(drawn: list[tuple[str, tuple[str, ...]]]) -> None:
    questions = [question(f"q{number}", answers=(answer,), docs=docs) for number, (answer, docs) in enumerate(drawn)]
    golden = split_stale(questions, TEXTS)
    assert [item for item in questions if item.id not in golden.stale] == list(golden.questions)
    assert {item.id for item in golden.questions} | set(golden.stale) == {item.id for item in questions}
    assert list(golden.stale) == sorted(golden.stale)
    assert split_stale(golden.questions, TEXTS) == GoldenSet(golden.questions, ())


def test_a_stale_question_is_current_again_once_its_answer_is(tmp_path: Path) -> None:
    changed = read(tmp_path, {"a.md": "The limit is 43."}, a=[GOOD])
    back = read(tmp_path, TEXTS, a=[GOOD])
    assert (len(changed.questions), len(changed.stale)) == (0, 1)
    assert (len(back.questions), back.stale) == (1, ())


def test_the_digest_is_that_of_the_questions_wherever_they_are_written(tmp_path: Path) -> None:
    second = GOOD | {"question": "And where?"}
    one_file = read(tmp_path / "one", a=[GOOD, second])
    two_files = read(tmp_path / "two", n=[GOOD, ""], o=["", {key: second[key] for key in reversed(second)}])
    assert one_file.digest() == two_files.digest()


@pytest.mark.parametrize(
    "change", [{"question": "Why?"}, {"answers": ("43",)}, {"docs": ("b.md",)}, {"format": r"\d+"}], ids=str
)
def test_another_question_makes_another_digest(change: dict[str, object]) -> None:
    before = GoldenSet((question("q"), question("r")), ())
    after = GoldenSet((question("q"), question("r", **change)), ())
    assert before.digest() != after.digest()


def test_a_question_that_went_stale_makes_another_digest() -> None:
    questions = [question("q"), question("r", docs=("b.md",), answers=("43",))]
    assert split_stale(questions, TEXTS).digest() != split_stale(questions, {"a.md": TEXTS["a.md"]}).digest()


# --- earlier questions and regression suites -------------------------------------------------------------------------


def test_questions_of_regression_suites_are_not_in_the_golden_set(tmp_path: Path) -> None:
    golden = read(tmp_path, **{"q": [GOOD | {"id": "1"}], "regression/old": [GOOD | {"id": "1"}]})
    assert [item.id for item in golden.questions] == ["1"]


def test_regression_suites_alone_are_no_golden_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no golden questions"):
        read(tmp_path, **{"regression/old": [GOOD]})


def record(space: Workspace, age: int, **files: list[object]) -> None:
    """Record a snapshot with these golden files, ordered by `age`, with the files in DVC's cache."""
    contents = {f"{name}.jsonl": "\n".join(map(json.dumps, lines)) for name, lines in files.items()}
    for content in contents.values():
        digest = md5(content)
        write(space.root / ".dvc/cache/files/md5" / digest[:2] / digest[2:], content)
    taken = compose_snapshot(
        {f"{age}.md": md5(str(age))}, {}, {path: md5(content) for path, content in contents.items()}
    )
    taken.write(space.snapshot_file(taken.id))
    os.utime(space.snapshot_file(taken.id), (1000 - age, 1000 - age))


def earlier(space: Workspace, *golden: GoldenQuestion, stale: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    questions = earlier_questions(space, GoldenSet(golden, stale), TEXTS, DocumentPaths())
    return [(item.id, item.answers[0]) for item in questions]


def test_the_newest_version_of_each_earlier_question_counts(tmp_path: Path) -> None:
    space = workspace(tmp_path)
    record(space, 2, q=[GOOD | {"id": "1", "question": "One?"}, GOOD | {"id": "2", "question": "Two?"}])
    record(space, 1, q=[GOOD | {"id": "1", "question": "One, then?", "answers": ["The limit is 42"]}])
    assert earlier(space) == [("1", "The limit is 42"), ("2", "42")]


@pytest.mark.parametrize(
    ("today", "stale"),
    [(question("1", question="Otherwise?"), ()), (question("9", question="One?"), ()), (question("9"), ("1",))],
    ids=["its id", "its wording", "its id, stale"],
)
def test_a_question_that_is_in_the_set_today_is_not_an_earlier_one(
    today: GoldenQuestion, stale: tuple[str, ...], tmp_path: Path
) -> None:
    space = workspace(tmp_path)
    record(space, 1, q=[GOOD | {"id": "1", "question": "One?"}])
    assert earlier(space, today, stale=stale) == []
    assert earlier(space, question("9")) == [("1", "42")]


def test_an_earlier_question_that_is_stale_invalid_or_of_a_suite_is_skipped(tmp_path: Path) -> None:
    space = workspace(tmp_path)
    record(space, 1, **{"q": [GOOD | {"answers": ["44"]}, {"ask": "me"}], "regression/old": [GOOD]})
    assert earlier(space) == []


def golden_files(space: Workspace, **files: object) -> dict[str, str]:
    """Write golden files of one line each (name without ending -> line); returns the MD5 of each file."""
    contents = {f"{name}.jsonl": json.dumps(line) + "\n" for name, line in files.items()}
    for path, content in contents.items():
        write(space.golden / path, content)
    return {path: md5(content) for path, content in contents.items()}


def test_wordings_include_the_regression_suites(tmp_path: Path) -> None:
    space = workspace(tmp_path)
    files = golden_files(space, **{"regression/old": GOOD | {"question": "Old?"}, "a": GOOD})
    assert golden_wordings(space, files) == [GOOD["question"], "Old?"]


def test_a_question_for_a_judge_without_a_judge_raises_with_file_and_line(tmp_path: Path) -> None:
    space = workspace(tmp_path)
    files = golden_files(space, a=GOOD, b=GOOD | {"scorer": "judge"})
    with pytest.raises(UserError, match=r"data/golden/b\.jsonl:1: .*score\.judge"):
        golden_wordings(space, files)
    judged = workspace(tmp_path, score={"judge": "openai:/some"})
    assert len(golden_wordings(judged, files)) == 2


def test_an_earlier_question_for_a_judge_is_skipped_without_a_judge(tmp_path: Path) -> None:
    space = workspace(tmp_path)
    record(space, 1, q=[GOOD | {"id": "1", "scorer": "judge"}])
    assert earlier(space) == []
    assert earlier(workspace(tmp_path, score={"judge": "openai:/some"})) == [("1", "42")]


def test_questions_about_a_moved_document_name_it_by_its_path_today(tmp_path: Path) -> None:
    line = json.dumps({"question": "What is the limit?", "answers": ["42"], "docs": ["old/a.md", "a.md"]}) + "\n"
    write(tmp_path / "q.jsonl", line)
    paths = DocumentPaths(dict.fromkeys(TEXTS, "1"), former={"old/a.md": "a.md"})
    golden, unmoved = (read_golden(tmp_path, {"q.jsonl": md5(line)}, TEXTS, given) for given in (paths, None))
    assert [item.docs for item in golden.questions] == [("a.md",)]
    assert golden.questions[0].id == unmoved.questions[0].id
    assert (golden.outdated_paths, unmoved.outdated_paths) == ({"old/a.md": "a.md"}, {})
