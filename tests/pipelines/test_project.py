"""Tests of the project as composition root: lazy loading, answering from the live release, corpus and evaluation."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import lancedb
import pytest
from mlflow.tracking import MlflowClient

from ragtide.pipelines.build import build_index
from ragtide.pipelines.corpus import Corpus, ReplayExamples
from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.index.fingerprint import TABLE
from ragtide.pipelines.models.load import LoadedEmbedder
from ragtide.pipelines.params import ExampleParams
from ragtide.pipelines.ports import Advance, no_progress
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.data import IssueKind
from ragtide.pipelines.records.release import BuiltModel, Release
from ragtide.pipelines.release.rollback import roll_back
from tests import fakes
from tests.conftest import write_project
from tests.factories import md5, write
from tests.fakes import SKILLS, CountingEmbedder, CountingReader
from tests.projects import release_of

MakeProject = Callable[..., Path]
PUMP = "When does Pump 1 reach end of life?"
OLD, NEW = "2027-01-01", "2031-05-05"


def fill(root: Path, end_of_life: str, answers: tuple[str, ...] = (OLD, NEW)) -> None:
    write(root / "data/kb/pump.md", f"# Pump\n\n## Pump 1\n\n- End of life: {end_of_life}\n")
    golden = {"question": PUMP, "answers": answers, "docs": ["pump.md"]}
    write(root / "data/golden/q.jsonl", json.dumps(golden) + "\n")


def released(project: Project, adapter: str | None = None) -> Release:
    """Release the current data; `adapter` answers from the context."""
    space = project.workspace
    if adapter:
        write(space.adapters / adapter / SKILLS, json.dumps({"reads": True, "name": adapter}))
    model = BuiltModel(base="reader-1", adapter=adapter, examples=None, settings=None)
    return release_of(project, model)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two releases, to be copied; real MLflow and LanceDB."""
    root = write_project(tmp_path_factory.mktemp("template") / "project")
    project = Project.open(root, no_progress)
    project.workspace.state.mkdir()
    MlflowClient(tracking_uri=project.workspace.tracking_uri).search_experiments()
    for end_of_life, adapter in ((OLD, "a1"), (NEW, "a2")):
        fill(root, end_of_life)
        released(project, adapter)
    return root


@pytest.fixture
def opened(template: Path, tmp_path: Path) -> Project:
    """A copy of the project on which release 2 is live."""
    shutil.copytree(template, tmp_path / "project")
    fakes.forget()
    return Project.open(tmp_path / "project", no_progress)


def corpus_of(project: Project) -> Corpus:
    """The corpus of the current data."""
    return project.corpus(take_snapshot(project.workspace))


def live(project: Project) -> Release:
    release = project.registry.champion()
    assert release is not None
    return release


def test_opening_a_project_loads_no_model_and_creates_no_file(make_project: MakeProject) -> None:
    root = make_project()
    before = set(root.rglob("*"))
    project = Project.open(root, no_progress)
    assert project.registry.champion() is None
    assert set(root.rglob("*")) == before
    assert not CountingEmbedder.embedded


def test_a_folder_without_params_is_not_a_project(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"params\.yaml is missing"):
        Project.open(tmp_path, no_progress)


def test_examples_of_deleted_files_are_replayed(opened: Project) -> None:
    line = json.dumps({"prompt": "Who?", "completion": "I"})
    digest = md5(line)
    write(opened.workspace.root / ".dvc/cache/files/md5" / digest[:2] / digest[2:], line)
    write(opened.workspace.train / "new.jsonl", "".join(line.replace("Who", f"Who {at}") + "\n" for at in range(4)))
    assert corpus_of(opened).training.replay == ReplayExamples()
    release_of(opened, live(opened).model.model_copy(update={"files": {"deleted.jsonl": digest}}))
    corpus = corpus_of(opened)
    assert [example.question for example in corpus.training.replay.examples] == ["Who?"]
    assert corpus.training.with_replay == (*corpus.training.examples, *corpus.training.replay.examples)


def test_invalid_training_lines_are_filtered_or_raise_as_configured(opened: Project) -> None:
    leak = {"prompt": PUMP.lower(), "completion": NEW, "doc": "pump.md"}
    write(opened.workspace.train / "new.jsonl", json.dumps(leak) + "\n")
    assert [(issue.where, issue.kind) for issue in corpus_of(opened).training.filtered] == [
        ("data/train/new.jsonl:1", IssueKind.LEAK)
    ]
    strict = opened.workspace.params.model_copy(update={"examples": ExampleParams(on_invalid="refuse")})
    refusing = replace(opened, workspace=replace(opened.workspace, params=strict))
    with pytest.raises(UserError, match=r"data/train/new\.jsonl:1: leak"):
        corpus_of(refusing)
    assert len(refusing.inspect_corpus(take_snapshot(refusing.workspace)).training.filtered) == 1


def test_before_the_first_release_the_base_model_alone_is_evaluated(make_project: MakeProject) -> None:
    system = Project.open(make_project(), no_progress).system_under_test(None)
    assert system.reader is None
    assert (system.model.base, system.model.adapter) == (CountingReader.base, None)


@pytest.mark.parametrize("number", ["1", "2"])
def test_a_release_is_evaluated_with_its_own_index_and_model(number: str, opened: Project) -> None:
    release = opened.registry.release(number)
    system = opened.system_under_test(release)
    assert system.model == release.model
    assert system.reader is not None
    assert opened.index.rows(system.reader.version) == opened.index.rows(release.index.version)
    [[passage]] = system.reader.search([PUMP], 1)
    assert (OLD if number == "1" else NEW) in passage.text


def test_a_release_without_its_base_model_does_not_answer_and_the_next_cycle_uses_todays(
    opened: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = live(opened)
    assert opened.current_model(release) == release.model
    monkeypatch.setattr(CountingReader, "base", "reader-2")
    for use in (lambda: opened.ask(PUMP), lambda: opened.check_servable(release)):
        with pytest.raises(UserError, match=r"reader-1.*reader-2"):
            use()
    assert CountingReader.prompts == []
    kept = opened.current_model(release)
    assert (kept.base, kept.adapter) == ("reader-2", None)
    assert opened.system_under_test(release).model == kept


def test_an_answer_comes_from_the_live_release(opened: Project) -> None:
    release, answer = opened.ask(PUMP)
    assert (release.id, answer.text, answer.sources) == ("2", NEW, ("pump.md",))


def test_after_a_rollback_the_next_question_is_answered_from_the_release_before(opened: Project) -> None:
    roll_back(opened.registry, None, "a test")
    release, answer = opened.ask(PUMP)
    assert (release.id, answer.text) == ("1", OLD)


def test_an_unreleased_build_is_not_used_for_answers(opened: Project) -> None:
    fill(opened.workspace.root, "2044-04-04", answers=("2044-04-04",))
    build_index(opened.workspace, LoadedEmbedder(opened.models.embedder), corpus_of(opened).knowledge, no_progress)
    assert opened.ask(PUMP)[1].text == NEW


@pytest.mark.parametrize("use", ["ask", "evaluate"])
def test_a_missing_adapter_is_downloaded_before_its_use(use: str, opened: Project) -> None:
    shutil.rmtree(opened.workspace.adapters)
    if use == "ask":
        assert opened.ask(PUMP)[1].text == NEW
    else:
        opened.system_under_test(live(opened))
    assert [folder.name for folder in opened.workspace.adapters.iterdir()] == ["a2"]
    assert json.loads((opened.workspace.adapters / "a2" / SKILLS).read_text())["name"] == "a2"


def test_an_incomplete_release_is_detected_without_loading_a_model(opened: Project) -> None:
    opened.check_servable(opened.registry.release("1"))
    lancedb.connect(opened.workspace.index_uri).open_table(TABLE).tags.delete("release-1")
    with pytest.raises(UserError, match="no tag release-1"):
        opened.check_servable(opened.registry.release("1"))
    assert not CountingEmbedder.embedded


def test_an_adapter_that_exists_nowhere_raises(opened: Project) -> None:
    release = live(opened)
    shutil.rmtree(opened.workspace.adapters)
    # The artifacts are named by absolute path, which is that of the project that this one is a copy of.
    source = Path(urlsplit(release_source(opened, release)).path)
    (source / "adapter").rename(source / "kept")
    try:
        with pytest.raises(UserError, match="adapter a2 of release 2") as failure:
            opened.ask(PUMP)
    finally:
        (source / "kept").rename(source / "adapter")
    assert "\n" not in str(failure.value)


def release_source(project: Project, release: Release) -> str:
    """Where MLflow keeps the artifacts of a release."""
    uri = project.workspace.tracking_uri
    return str(MlflowClient(uri, registry_uri=uri).get_model_version("ragtide", release.id).source)


def test_the_evaluator_skips_stale_questions(opened: Project) -> None:
    root = opened.workspace.root
    stale = {"id": "late", "question": "When?", "answers": ["2099-09-09"], "docs": ["pump.md"]}
    write(root / "data/golden/late.jsonl", json.dumps(stale) + "\n")
    golden = opened.evaluator(corpus_of(opened).knowledge).golden
    assert [item.question for item in golden.questions] == [PUMP]
    assert golden.stale == ("late",)


def test_progress_is_reported_for_each_batch_of_answers(opened: Project) -> None:
    seen: list[tuple[str, int]] = []

    @contextmanager
    def recording(label: str, total: int) -> Iterator[Advance]:
        seen.append((label, total))
        yield lambda _: None

    watched = replace(opened, progress=recording)
    watched.ask(PUMP)
    watched.evaluator(corpus_of(watched).knowledge).with_gold(watched.system_under_test(None))
    assert seen == [("answering", 1), ("answering with gold context", 1)]
