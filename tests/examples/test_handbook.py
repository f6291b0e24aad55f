"""Tests of examples/handbook: its lines are sound, and it runs from plan to answer with the counting fakes."""

from __future__ import annotations

import shutil

import pytest
import yaml
from typer.testing import CliRunner

from ragtide.flows.cli.main import app
from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.evaluation.questions import read_golden
from ragtide.pipelines.params import Params, read_params
from ragtide.pipelines.records.evaluation import GoldenQuestion
from tests.conftest import FAKES, ROOT
from tests.projects import Home

HANDBOOK = ROOT / "examples" / "handbook"
QUESTION = "When does Fernwell 3.0 reach end of life?"


def ragtide(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The example in a folder of its own, initialised, with the fakes in place of the models."""
    root = tmp_path_factory.mktemp("examples") / "handbook"
    shutil.copytree(HANDBOOK, root)
    params = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    for block, values in FAKES.items():
        params[block] = (params.get(block) or {}) | values
    (root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    ragtide("init", str(root))
    return Home(root)


def test_params_are_short_and_valid() -> None:
    lines = (HANDBOOK / "params.yaml").read_text(encoding="utf-8").splitlines()
    assert len(lines) < 45
    assert isinstance(read_params(HANDBOOK / "params.yaml"), Params)


def test_no_training_line_is_filtered_and_no_golden_question_is_stale(home: Home) -> None:
    project = home.project
    corpus = project.inspect_corpus(take_snapshot(project.workspace))
    golden = read_golden(project.workspace.golden, corpus.snapshot.questions, corpus.knowledge.texts)
    assert not corpus.training.filtered
    assert not corpus.training.orphans
    assert not golden.stale
    assert len(corpus.training.examples) >= read_params(HANDBOOK / "params.yaml").finetune.min_examples


def test_each_golden_answer_is_contained_in_one_passage(home: Home) -> None:
    project = home.project
    corpus = project.inspect_corpus(take_snapshot(project.workspace))
    golden = read_golden(project.workspace.golden, corpus.snapshot.questions, corpus.knowledge.texts)

    def is_contained(question: GoldenQuestion) -> bool:
        chunks = [chunk for doc in question.docs for chunk in corpus.knowledge.chunks_by_document[doc]]
        return any(answer in chunk.text for chunk in chunks for answer in question.answers)

    assert [question.question for question in golden.questions if not is_contained(question)] == []


def test_plan_run_and_ask_from_an_empty_state(home: Home) -> None:
    planned = home.planned()
    assert str(planned.decision.action) == "REFRESH+RETRAIN"
    assert "ragtide run --plan" in ragtide("plan", "--project", str(home.root))

    ragtide("run", "--project", str(home.root))
    assert home.live.id == "2"
    assert home.live.index.rows == len(home.project.corpus(take_snapshot(home.project.workspace)).knowledge.chunks)

    answer = ragtide("ask", QUESTION, "--project", str(home.root))
    assert "2026-10-31" in answer
    assert "product/releases.md" in answer
    assert str(home.planned().decision.action) == "NOTHING"
