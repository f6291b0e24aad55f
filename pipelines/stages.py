"""What does `ragtide stage NAME` do? The stages of dvc.yaml, by the same functions as the flow's tasks call.

Heavy libraries are imported where they are needed: that there is nothing to do must be found out in a moment.
"""

from __future__ import annotations

from pathlib import Path

from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.ports import Progress
from ragtide.pipelines.records.base import Record
from ragtide.pipelines.workspace import Workspace


def run_stage(name: str, root: Path, progress: Progress, rebuild: bool = False) -> Record:
    """Run one stage on what is in the data folders now; it writes below artifacts/ and releases nothing.

    `rebuild` allows the stage `index` to make all rows anew, where params.yaml names another embedder or chunker.
    """
    workspace = Workspace.open(root)
    with workspace.write_lock():
        if name == "index":
            return _index(workspace, progress, rebuild)
        return _with_models(name, root, progress)


def _index(workspace: Workspace, progress: Progress, rebuild: bool) -> Record:
    from ragtide.pipelines.index.fingerprint import current_index, last_built_index
    from ragtide.pipelines.models.embedder import OpenVinoEmbedder
    from ragtide.pipelines.models.load import load_embedder, load_index_embedder

    snapshot, noted = take_snapshot(workspace), last_built_index(workspace)
    usual = load_embedder(workspace.params.embed)
    retriever = load_index_embedder(workspace, usual, noted.tuned_embedder if noted else None)
    if known := current_index(workspace, snapshot, retriever.embedder):
        return known.model_copy(update={"embedded": 0, "new": 0, "seconds": 0.0})
    if isinstance(retriever.embedder, OpenVinoEmbedder):
        # Both take a second or two to start: LanceDB in this thread, the embedder in another.
        retriever.embedder.warm_up()
    from ragtide.pipelines.build import build_index_only

    return build_index_only(workspace, retriever, snapshot, progress, rebuild)


def _with_models(name: str, root: Path, progress: Progress) -> Record:
    from ragtide.pipelines.build import build_model, open_index
    from ragtide.pipelines.evaluation.evaluator import SystemUnderTest
    from ragtide.pipelines.index.fingerprint import last_built_index
    from ragtide.pipelines.project import Project
    from ragtide.pipelines.records.release import BuiltIndex, BuiltModel

    project = Project.open(root, progress)
    workspace = project.workspace
    corpus = project.corpus(take_snapshot(workspace))
    if name == "finetune":
        # dvc.yaml says why the index is no dependency of this stage: the latest one is what retrieval returns. It is
        # brought up to date where it is not, but artifacts/index.json belongs to the stage `index`.
        noted = last_built_index(workspace)
        index = open_index(workspace, project.embedder_for(noted.tuned_embedder if noted else None).embedder)
        version = index.refresh(corpus.knowledge.source, corpus.snapshot.kb_id, progress).version
        model, _ = build_model(workspace, project.models, corpus, index.retriever(version), progress)
        return model
    built = BuiltIndex.read(workspace.artifacts / "index.json")
    subject = SystemUnderTest(project.retriever(built), BuiltModel.read(workspace.artifacts / "model.json"))
    scorecard = project.evaluator(corpus.knowledge).scorecard(subject)
    scorecard.write(workspace.artifacts / "scorecard.json")
    return scorecard
