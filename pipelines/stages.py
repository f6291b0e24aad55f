"""The stages of dvc.yaml (`ragtide stage NAME`), which call the same functions as the flow's tasks.

Heavy libraries are imported inside the functions, so that a stage with nothing to do ends within a moment.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.ports import Progress
from ragtide.pipelines.records.base import Record
from ragtide.pipelines.records.release import BuiltIndex, BuiltModel
from ragtide.pipelines.workspace import Workspace

if TYPE_CHECKING:
    from ragtide.pipelines.project import Project
    from ragtide.pipelines.records.evaluation import Scorecard


def run_stage(name: str, root: Path, progress: Progress, rebuild: bool = False) -> Record:
    """Run one stage on the current content of the data folders; it writes below artifacts/ and releases nothing.

    `rebuild` allows the stage `index` to rebuild all rows if the embedder or chunker settings have changed.
    """
    workspace = Workspace.open(root)
    with workspace.write_lock():
        if name == "index":
            return _run_index(workspace, progress, rebuild)
        from ragtide.pipelines.project import Project

        project = Project.open(root, progress)
        return _run_finetune(project, progress) if name == "finetune" else _run_score(project)


def _run_index(workspace: Workspace, progress: Progress, rebuild: bool) -> Record:
    from ragtide.pipelines.index.fingerprint import current_index, last_built_index
    from ragtide.pipelines.models.embedder import OpenVinoEmbedder
    from ragtide.pipelines.models.load import load_embedder, load_index_embedder

    snapshot, last_built = take_snapshot(workspace), last_built_index(workspace)
    base = load_embedder(workspace.params.embed)
    loaded = load_index_embedder(workspace, base, last_built.tuned_embedder if last_built else None)
    if current := current_index(workspace, snapshot, loaded.embedder):
        return current.model_copy(update={"embedded": 0, "new": 0, "seconds": 0.0})
    if isinstance(loaded.embedder, OpenVinoEmbedder):
        # LanceDB and the embedder take a second or two each to start: the embedder does so in a thread of its own.
        loaded.embedder.warm_up()
    from ragtide.pipelines.build import build_index_only

    return build_index_only(workspace, loaded, snapshot, progress, rebuild)


def _run_finetune(project: Project, progress: Progress) -> BuiltModel:
    from ragtide.pipelines.build import build_model, open_index
    from ragtide.pipelines.index.fingerprint import last_built_index

    # The samples hold the passages that the latest index returns, but dvc.yaml says why that index is no dependency of
    # this stage. Its table is refreshed here; artifacts/index.json is left to the stage `index`.
    workspace = project.workspace
    corpus = project.corpus(take_snapshot(workspace))
    last_built = last_built_index(workspace)
    loaded = project.embedder_for(last_built.tuned_embedder if last_built else None)
    index = open_index(workspace, loaded.embedder)
    version = index.refresh(corpus.knowledge.source, corpus.snapshot.kb_id, progress).version
    model, _ = build_model(workspace, project.models, corpus, index.retriever(version), progress)
    return model


def _run_score(project: Project) -> Scorecard:
    from ragtide.pipelines.evaluation.evaluator import SystemUnderTest

    artifacts = project.workspace.artifacts
    corpus = project.corpus(take_snapshot(project.workspace))
    index = BuiltIndex.read(project.workspace.index_artifact)
    system = SystemUnderTest(project.retriever(index), BuiltModel.read(artifacts / "model.json"))
    scorecard = project.evaluator(corpus.knowledge).scorecard(system)
    scorecard.write(artifacts / "scorecard.json")
    return scorecard
