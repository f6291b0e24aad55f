"""Tests of the regression suites: their sources, sizes, stale questions, and how both systems are scored on them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ragtide.pipelines.build import base_model_only, open_index
from ragtide.pipelines.corpus import KnowledgeBase
from ragtide.pipelines.data.dvc import ensure_repository
from ragtide.pipelines.data.moves import DocumentPaths
from ragtide.pipelines.data.snapshot import compose_snapshot
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.evaluation.assistant import Answerer
from ragtide.pipelines.evaluation.evaluator import Evaluator, SystemUnderTest
from ragtide.pipelines.evaluation.questions import GoldenSet
from ragtide.pipelines.evaluation.regression import (
    EARLIER,
    GENERAL,
    INSTRUCTIONS,
    RegressionSuite,
    general_questions,
    outdated_suite_paths,
    regression_suites,
    score_suites,
)
from ragtide.pipelines.evaluation.scoring import grade_answer, is_well_formed
from ragtide.pipelines.index.chunking import chunk_document
from ragtide.pipelines.models.load import Models
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.records.evaluation import GoldenQuestion
from ragtide.pipelines.records.release import BuiltModel
from ragtide.pipelines.workspace import Workspace
from tests import fakes
from tests.factories import document, md5, question, workspace, write
from tests.fakes import SKILLS, CountingEmbedder, CountingReader, CountingTrainer

PAGE = "# Pump\n\n## Pump 1\n\n- End of life: 2027-01-01\n"
ASKS = {"question": "When does Pump 1 reach end of life?", "answers": ["2027-01-01"], "docs": ["pump.md"]}
FREE = {"question": "Say hello.", "answers": ["hello"]}
MODELS = Models(CountingEmbedder(), CountingReader(), CountingTrainer())


@pytest.fixture(autouse=True)
def _nothing_counted() -> None:
    fakes.forget()


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    return project(tmp_path, general=False)


def project(root: Path, **gate: Any) -> Workspace:
    return workspace(root, gate=gate)


def lines(*rows: Mapping[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def corpus_of(space: Workspace, text: str = PAGE, **files: str) -> KnowledgeBase:
    """A corpus of one page with these golden files (name without ending -> content)."""
    golden = {f"{name}.jsonl": content for name, content in files.items()}
    for path, content in golden.items():
        write(space.golden / path, content)
    data = compose_snapshot({"pump.md": md5(text)}, {}, {path: md5(content) for path, content in golden.items()})
    page = document("pump.md", text)
    return KnowledgeBase(data, (page,), tuple(chunk_document(page, space.params.chunk)))


def remember(space: Workspace, **files: str) -> None:
    """An earlier snapshot with these golden files, as DVC would have kept it."""
    ensure_repository(space.root)
    golden = {f"{name}.jsonl": md5(content) for name, content in files.items()}
    for content in files.values():
        digest = md5(content)
        write(space.root / ".dvc/cache/files/md5" / digest[:2] / digest[2:], content)
    earlier = compose_snapshot({"pump.md": md5("other")}, {}, golden)
    earlier.write(space.snapshot_file(earlier.id))


def suites_of(space: Workspace, corpus: KnowledgeBase, *golden: GoldenQuestion) -> dict[str, list[str]]:
    """Suite -> the questions in it."""
    suites = regression_suites(space, corpus, GoldenSet(golden or (question(),), ()))
    return {suite.name: [item.question for item in suite.questions] for suite in suites}


def test_each_file_below_regression_is_a_suite_with_its_name(space: Workspace) -> None:
    files = {"q": lines(ASKS), "regression/sgd": lines(FREE), "regression/old/bash": lines(ASKS)}
    assert suites_of(space, corpus_of(space, **files)) == {
        "old/bash": [ASKS["question"]],
        "sgd": [FREE["question"]],
    }


def test_former_paths_in_lines_of_a_suite_are_listed(space: Workspace) -> None:
    corpus = corpus_of(space, **{"q": lines(ASKS), "regression/sgd": lines(FREE | {"docs": ["old.md", "pump.md"]})})
    paths = DocumentPaths(documents={"pump.md": "x", "new.md": "y"}, moves={"old.md": "new.md"})
    assert outdated_suite_paths(space, replace(corpus, paths=paths)) == {"old.md": "new.md"}
    assert outdated_suite_paths(space, corpus_of(space, q=lines(ASKS))) == {}


def test_without_earlier_questions_there_is_no_suite(space: Workspace) -> None:
    assert suites_of(space, corpus_of(space, q=lines(ASKS))) == {}


def test_an_invalid_line_of_a_suite_raises_with_file_and_line(space: Workspace) -> None:
    corpus = corpus_of(space, **{"regression/sgd": '{"question": "?"}\n'})
    with pytest.raises(UserError, match=r"regression/sgd\.jsonl:1: answers"):
        suites_of(space, corpus)


def test_golden_questions_of_earlier_snapshots_are_a_suite(space: Workspace) -> None:
    remember(space, q=lines(ASKS, FREE))
    assert suites_of(space, corpus_of(space, new=lines(FREE))) == {EARLIER: [ASKS["question"], FREE["question"]]}


def test_a_question_of_the_golden_set_or_of_a_file_is_not_an_earlier_one(space: Workspace) -> None:
    remember(space, q=lines(ASKS, FREE))
    corpus = corpus_of(space, **{"regression/hello": lines(FREE)})
    assert suites_of(space, corpus, question(question=str(ASKS["question"]))) == {"hello": [FREE["question"]]}


@pytest.mark.parametrize("name", ["q", "regression/old"])
def test_stale_questions_are_skipped(name: str, space: Workspace) -> None:
    remember(space, q=lines(ASKS))
    corpus = corpus_of(space, PAGE.replace("2027", "2031"), **{name: lines(ASKS)})
    assert suites_of(space, corpus) == {}


def test_a_file_that_is_not_in_the_dvc_cache_is_skipped(space: Workspace) -> None:
    remember(space, q=lines(ASKS))
    for path in (space.root / ".dvc/cache/files").rglob("*"):
        if path.is_file():
            path.unlink()
    assert suites_of(space, corpus_of(space, new=lines(FREE))) == {}


def test_a_suite_is_cut_to_evenly_spaced_questions(tmp_path: Path) -> None:
    space = project(tmp_path, general=False, suite_questions=3)
    many = lines(*(FREE | {"id": str(number), "question": str(number)} for number in range(9)))
    numbers = [int(text) for text in suites_of(space, corpus_of(space, **{"regression/count": many}))["count"]]
    assert len(numbers) == 3
    assert numbers[0] < 3 <= numbers[1] < 6 <= numbers[2]


def test_general_instructions_are_a_suite_where_they_are_switched_on(tmp_path: Path) -> None:
    on, off = (project(tmp_path / str(chosen), general=chosen) for chosen in (True, False))
    assert set(suites_of(on, corpus_of(on, q=lines(ASKS)))) == {GENERAL}
    assert suites_of(off, corpus_of(off, q=lines(ASKS))) == {}


def test_a_file_of_that_name_replaces_the_instructions(tmp_path: Path) -> None:
    space = project(tmp_path, general=True)
    assert suites_of(space, corpus_of(space, **{f"regression/{GENERAL}": lines(FREE)})) == {GENERAL: [FREE["question"]]}


def test_a_suite_that_may_lose_everything_is_skipped(tmp_path: Path) -> None:
    space = project(tmp_path, general=True, suites={GENERAL: 1, "sgd": 0.99})
    assert set(suites_of(space, corpus_of(space, **{"regression/sgd": lines(FREE)}))) == {"sgd"}


# --- scores ----------------------------------------------------------------------------------------------------------


def system(space: Workspace, corpus: KnowledgeBase, reads: bool) -> SystemUnderTest:
    index = open_index(space, MODELS.embedder)
    model = base_model_only(MODELS)
    if reads:
        write(space.adapters / "a1" / SKILLS, json.dumps({"reads": True, "json": False}))
        model = BuiltModel(base="reader-1", adapter="a1", examples=None, settings=None)
    return SystemUnderTest(index.retriever(index.refresh(corpus.source, "s", no_progress).version), model)


def test_each_system_answers_with_its_own_retrieved_passages(space: Workspace) -> None:
    corpus = corpus_of(space, q=lines(ASKS))
    evaluator = Evaluator(corpus, GoldenSet((), ()), Answerer(space, MODELS, no_progress), space.params)
    pump = GoldenQuestion(id="pump", question=str(ASKS["question"]), answers=("2027-01-01",), docs=("pump.md",))
    live, candidate = system(space, corpus, reads=True), system(space, corpus, reads=False)
    [score] = score_suites([RegressionSuite("pump", (pump,))], evaluator, live, candidate)
    assert (score.name, score.before.answer_score.value, score.after.answer_score.value) == ("pump", 1.0, 0.0)
    assert (score.before.adapter, score.after.adapter) == ("a1", None)
    assert score.before.questions == score.after.questions
    assert score.before.retrieval == {}
    assert all(prompt.startswith("Context:") for prompt in CountingReader.prompts)


def test_instructions_are_asked_without_context(space: Workspace) -> None:
    corpus = corpus_of(space, q=lines(ASKS))
    evaluator = Evaluator(corpus, GoldenSet((), ()), Answerer(space, MODELS, no_progress), space.params)
    live = system(space, corpus, reads=True)
    score_suites([RegressionSuite(GENERAL, general_questions(), with_passages=False)], evaluator, live, live)
    assert CountingReader.prompts == [text for text, _, _ in INSTRUCTIONS]


def test_every_instruction_accepts_its_answer_and_no_other_form() -> None:
    assert (
        len({item.id for item in general_questions()})
        == len(general_questions())
        == len({item.question for item in general_questions()})
    )
    for item in general_questions():
        answer = "RIVER" if "capital letters" in item.question else item.answers[0]
        assert grade_answer(answer, item) == 1.0
        assert grade_answer("I do not know.", item) == 0.0
    strict = [item for item in general_questions() if item.format]
    assert not any(is_well_formed(f"Certainly. The answer is {item.answers[0]}", item) for item in strict)
    assert all(re.compile(str(item.format)) for item in strict)
