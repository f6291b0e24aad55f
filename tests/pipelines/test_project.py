"""Does a project answer from what is live, whole, and is nothing of it loaded or made before it is used?"""

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
    """Make a release of what is in the folders now; `adapter` has learnt to read."""
    space = project.workspace
    if adapter:
        write(space.adapters / adapter / SKILLS, json.dumps({"reads": True, "name": adapter}))
    model = BuiltModel(base="reader-1", adapter=adapter, examples=None, settings=None)
    return release_of(project, model)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two releases, to be copied; real MLflow and LanceDB."""
    root = write_project(tmp_path_factory.mktemp("project") / "told")
    project = Project.open(root, no_progress)
    project.workspace.state.mkdir()
    MlflowClient(tracking_uri=project.workspace.tracking_uri).search_experiments()
    for end_of_life, adapter in ((OLD, "a1"), (NEW, "a2")):
        fill(root, end_of_life)
        released(project, adapter)
    return root


@pytest.fixture
def opened(told: Path, tmp_path: Path) -> Project:
    """A copy of the project on which release 2 is live."""
    shutil.copytree(told, tmp_path / "told")
    fakes.forget()
    return Project.open(tmp_path / "told", no_progress)


def corpus_of(project: Project) -> Corpus:
    """What is in the folders now."""
    return project.corpus(take_snapshot(project.workspace))


def live(project: Project) -> Release:
    found = project.registry.champion()
    assert found is not None
    return found


def test_opening_a_project_loads_no_model_and_makes_nothing(make_project: MakeProject) -> None:
    root = make_project()
    before = set(root.rglob("*"))
    project = Project.open(root, no_progress)
    assert project.registry.champion() is None
    assert set(root.rglob("*")) == before
    assert not CountingEmbedder.embedded


def test_a_folder_that_is_no_project_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"params\.yaml is missing"):
        Project.open(tmp_path, no_progress)


def test_what_the_live_model_has_learnt_from_files_that_are_gone_is_taught_again(opened: Project) -> None:
    line = json.dumps({"prompt": "Who?", "completion": "I"})
    digest = md5(line)
    write(opened.workspace.root / ".dvc/cache/files/md5" / digest[:2] / digest[2:], line)
    write(opened.workspace.train / "new.jsonl", "".join(line.replace("Who", f"Who {at}") + "\n" for at in range(4)))
    assert corpus_of(opened).training.replay == ReplayExamples()
    release_of(opened, live(opened).model.model_copy(update={"files": {"gone.jsonl": digest}}))
    corpus = corpus_of(opened)
    assert [one.question for one in corpus.training.replay.examples] == ["Who?"]
    assert corpus.training.with_replay == (*corpus.training.examples, *corpus.training.replay.examples)


def test_training_lines_that_are_not_fit_are_left_out_or_refused_as_the_params_say(opened: Project) -> None:
    leak = {"prompt": PUMP.lower(), "completion": NEW, "doc": "pump.md"}
    write(opened.workspace.train / "new.jsonl", json.dumps(leak) + "\n")
    assert [(one.where, one.kind) for one in corpus_of(opened).training.filtered] == [("data/train/new.jsonl:1", IssueKind.LEAK)]
    strict = opened.workspace.params.model_copy(update={"examples": ExampleParams(on_invalid="refuse")})
    refusing = replace(opened, workspace=replace(opened.workspace, params=strict))
    with pytest.raises(UserError, match=r"1 training line is not fit to learn from \(data/train/new\.jsonl:1: leak"):
        corpus_of(refusing)
    assert len(refusing.inspect_corpus(take_snapshot(refusing.workspace)).training.filtered) == 1


def test_before_the_first_release_the_base_model_alone_is_measured(make_project: MakeProject) -> None:
    subject = Project.open(make_project(), no_progress).system_under_test(None)
    assert subject.reader is None
    assert (subject.model.base, subject.model.adapter) == (CountingReader.base, None)


@pytest.mark.parametrize("number", ["1", "2"])
def test_a_release_is_measured_with_its_own_index_and_model(number: str, opened: Project) -> None:
    release = opened.registry.release(number)
    subject = opened.system_under_test(release)
    assert subject.model == release.model
    assert subject.reader is not None
    assert opened.index.rows(subject.reader.version) == opened.index.rows(release.index.version)
    [[passage]] = subject.reader.search([PUMP], 1)
    assert (OLD if number == "1" else NEW) in passage.text


def test_a_release_whose_base_is_gone_answers_nothing_and_the_next_turn_goes_on_from_todays(
    opened: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = live(opened)
    assert opened.current_model(release) == release.model
    monkeypatch.setattr(CountingReader, "base", "reader-2")
    for use in (lambda: opened.ask(PUMP), lambda: opened.check_servable(release)):
        with pytest.raises(UserError, match="made from reader-1, and what is there now is reader-2: put it back"):
            use()
    assert CountingReader.prompts == []
    kept = opened.current_model(release)
    assert (kept.base, kept.adapter) == ("reader-2", None)
    assert opened.system_under_test(release).model == kept


def test_an_answer_comes_from_what_is_live_and_says_so(opened: Project) -> None:
    release, answer = opened.ask(PUMP)
    assert (release.id, answer.text, answer.sources) == ("2", NEW, ("pump.md",))


def test_after_a_rollback_the_next_question_is_answered_from_the_release_before(opened: Project) -> None:
    roll_back(opened.registry, None, "a test")
    release, answer = opened.ask(PUMP)
    assert (release.id, answer.text) == ("1", OLD)


def test_what_was_built_and_not_released_is_never_answered_from(opened: Project) -> None:
    fill(opened.workspace.root, "2044-04-04", answers=("2044-04-04",))
    build_index(opened.workspace, LoadedEmbedder(opened.models.embedder), corpus_of(opened).knowledge, no_progress)
    assert opened.ask(PUMP)[1].text == NEW


@pytest.mark.parametrize("use", ["ask", "subject"])
def test_an_adapter_that_is_not_on_this_machine_is_brought_here_before_it_is_used(use: str, opened: Project) -> None:
    shutil.rmtree(opened.workspace.adapters)
    if use == "ask":
        assert opened.ask(PUMP)[1].text == NEW
    else:
        opened.system_under_test(live(opened))
    assert [folder.name for folder in opened.workspace.adapters.iterdir()] == ["a2"]
    assert json.loads((opened.workspace.adapters / "a2" / SKILLS).read_text())["name"] == "a2"


def test_a_release_that_is_not_whole_any_more_is_told_without_loading_a_model(opened: Project) -> None:
    opened.check_servable(opened.registry.release("1"))
    lancedb.connect(opened.workspace.index_uri).open_table(TABLE).tags.delete("release-1")
    with pytest.raises(UserError, match="no tag release-1 any more"):
        opened.check_servable(opened.registry.release("1"))
    assert not CountingEmbedder.embedded


def test_an_adapter_that_is_nowhere_any_more_is_refused_in_one_line(opened: Project) -> None:
    release = live(opened)
    shutil.rmtree(opened.workspace.adapters)
    # The artifacts are named by absolute path, which is that of the project that this one is a copy of.
    source = Path(urlsplit(release_source(opened, release)).path)
    (source / "adapter").rename(source / "kept")
    try:
        with pytest.raises(UserError, match="adapter a2 of release 2 is neither here nor in MLflow") as refusal:
            opened.ask(PUMP)
    finally:
        (source / "kept").rename(source / "adapter")
    assert "\n" not in str(refusal.value)


def release_source(project: Project, release: Release) -> str:
    """Where MLflow keeps what belongs to a release."""
    uri = project.workspace.tracking_uri
    return str(MlflowClient(uri, registry_uri=uri).get_model_version("ragtide", release.id).source)


def test_examining_asks_only_what_the_documents_can_answer(opened: Project) -> None:
    root = opened.workspace.root
    stale = {"id": "late", "question": "When?", "answers": ["2099-09-09"], "docs": ["pump.md"]}
    write(root / "data/golden/late.jsonl", json.dumps(stale) + "\n")
    golden = opened.evaluator(corpus_of(opened).knowledge).golden
    assert [one.question for one in golden.questions] == [PUMP]
    assert golden.stale == ("late",)


def test_the_progress_of_the_project_shows_what_is_asked(opened: Project) -> None:
    seen: list[tuple[str, int]] = []

    @contextmanager
    def noting(label: str, total: int) -> Iterator[Advance]:
        seen.append((label, total))
        yield lambda _: None

    watched = replace(opened, progress=noting)
    watched.ask(PUMP)
    watched.evaluator(corpus_of(watched).knowledge).with_gold(watched.system_under_test(None))
    assert seen == [("answering", 1), ("answering with the right passage", 1)]
