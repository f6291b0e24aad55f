"""What does `ragtide stage NAME` do? The stages of dvc.yaml, by the same functions as the flow's tasks call.

Heavy libraries are imported where they are needed: that there is nothing to do must be found out in a moment.
"""

from __future__ import annotations

from pathlib import Path

from pipelines.observe.snapshot import observe
from pipelines.ports import Progress
from pipelines.records import Record
from pipelines.workspace import Workspace


def run_stage(name: str, root: Path, progress: Progress, rebuild: bool = False) -> Record:
    """Run one stage on what is in the data folders now; it writes below artifacts/ and releases nothing.

    `rebuild` allows the stage `index` to make all rows anew, where params.yaml names another embedder or chunker.
    """
    workspace = Workspace.open(root)
    with workspace.writing():
        if name == "index":
            return _index(workspace, progress, rebuild)
        return _with_models(name, root, progress)


def _index(workspace: Workspace, progress: Progress, rebuild: bool) -> Record:
    from pipelines.build.embed import OpenVinoEmbedder
    from pipelines.build.fingerprint import noted_index, settled
    from pipelines.build.models import load_embedder, retriever_of

    snapshot, noted = observe(workspace), noted_index(workspace)
    usual = load_embedder(workspace.params.embed)
    retriever = retriever_of(workspace, usual, noted.retriever if noted else None)
    if known := settled(workspace, snapshot, retriever.embedder):
        return known.model_copy(update={"embedded": 0, "new": 0, "seconds": 0.0})
    if isinstance(retriever.embedder, OpenVinoEmbedder):
        # Both take a second or two to start: LanceDB in this thread, the embedder in another.
        retriever.embedder.warm_up()
    from pipelines.build.candidate import build_index_alone

    return build_index_alone(workspace, retriever, snapshot, progress, rebuild)


def _with_models(name: str, root: Path, progress: Progress) -> Record:
    from pipelines.build.candidate import build_model, open_index
    from pipelines.build.fingerprint import noted_index
    from pipelines.prove.attribution import Subject
    from pipelines.publish.project import Project
    from pipelines.records import BuiltIndex, BuiltModel

    project = Project.open(root, progress)
    workspace = project.workspace
    corpus = project.corpus(observe(workspace))
    if name == "finetune":
        # dvc.yaml says why the index is no dependency of this stage: the latest one is what retrieval returns. It is
        # brought up to date where it is not, but artifacts/index.json belongs to the stage `index`.
        noted = noted_index(workspace)
        index = open_index(workspace, project.retriever(noted.retriever if noted else None).embedder)
        version = index.refresh(corpus.source, corpus.snapshot.kb_id, progress).version
        model, _ = build_model(workspace, project.models, corpus, index.reader(version), progress)
        return model
    built = BuiltIndex.read(workspace.artifacts / "index.json")
    subject = Subject(project.reader(built), BuiltModel.read(workspace.artifacts / "model.json"))
    scorecard = project.examiner(corpus).scorecard(subject)
    scorecard.write(workspace.artifacts / "scorecard.json")
    return scorecard
