"""What does `ragtide stage NAME` do? The stages of dvc.yaml, by the same functions as the flow's tasks call."""

from __future__ import annotations

from collections.abc import Callable

from pipelines.build.candidate import build_index, build_model
from pipelines.build.corpus import Corpus, read_corpus
from pipelines.observe.snapshot import observe
from pipelines.prove.attribution import Subject
from pipelines.publish.project import Project
from pipelines.records import BuiltIndex, BuiltModel, Record


def run_stage(name: str, project: Project) -> Record:
    """Run one stage on what is in the data folders now; it writes below artifacts/ and releases nothing."""
    with project.workspace.writing():
        return STAGES[name](project, read_corpus(project.workspace, observe(project.workspace)))


def _index(project: Project, corpus: Corpus) -> Record:
    return build_index(project.workspace, project.models, corpus, project.progress)


def _finetune(project: Project, corpus: Corpus) -> Record:
    # dvc.yaml says why the index is no dependency of this stage: the latest one is what retrieval returns. It is
    # brought up to date where it is not, but artifacts/index.json belongs to the stage `index`.
    index = project.index.refresh(corpus.chunks, corpus.snapshot.id, project.progress)
    model, _ = build_model(
        project.workspace, project.models, corpus, project.index.reader(index.version), project.progress
    )
    return model


def _score(project: Project, corpus: Corpus) -> Record:
    artifacts = project.workspace.artifacts
    index = BuiltIndex.read(artifacts / "index.json")
    subject = Subject(project.index.reader(index.version), BuiltModel.read(artifacts / "model.json"))
    scorecard = project.examiner(corpus).scorecard(subject)
    scorecard.write(artifacts / "scorecard.json")
    return scorecard


STAGES: dict[str, Callable[[Project, Corpus], Record]] = {"index": _index, "finetune": _finetune, "score": _score}
