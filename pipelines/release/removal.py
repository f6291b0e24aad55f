"""Removal of deleted documents from the live index, without anything else that changed (invariant deleted-is-gone)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ragtide.pipelines.build import write_index_artifact
from ragtide.pipelines.corpus import KnowledgeBase
from ragtide.pipelines.evaluation.evaluator import SystemUnderTest
from ragtide.pipelines.evaluation.gate import accept_removal, check_rows
from ragtide.pipelines.index.source import InMemorySource
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.data import Chunk
from ragtide.pipelines.records.release import BuiltIndex, Candidate, Release
from ragtide.pipelines.release.proof import Proof


@dataclass(frozen=True)
class Removal:
    """The live index without the rows of deleted documents, and the chunks that it is to hold."""

    index: BuiltIndex
    chunks: Sequence[Chunk]


def build_removal(project: Project, live: Release, knowledge: KnowledgeBase) -> Removal:
    """Build the live rows less those of the knowledge base's deleted documents; their vectors are reused.

    The release's own embedder and settings are used, whatever the index that was rejected was built with.
    """
    index = project.index_of(live.index)
    staying = sorted(index.documents(live.index_tag).keys() - knowledge.deleted.keys())
    chunks = index.chunks(staying, live.index_tag)
    built = index.refresh(InMemorySource.of(chunks), live.index.documents, project.progress, rebuild=True)
    # What the documents say besides still waits to go live.
    update = {"tuned_embedder": live.index.tuned_embedder, "waiting": max(1, knowledge.waiting)}
    built = built.model_copy(update=update)
    write_index_artifact(project.workspace, built)
    return Removal(built, chunks)


def prove_removal(project: Project, removal: Removal, live: Release, knowledge: KnowledgeBase) -> Proof:
    """The proof of a removal: its rows are checked, and its score is only recorded.

    The release keeps the snapshot of the live one, since nothing that the documents newly say is in it.
    """
    update = {"index": removal.index, "decision": Action.REMOVE, "previous": live.id}
    candidate = Candidate(**{**{name: getattr(live, name) for name in Candidate.model_fields}, **update})
    evaluator = project.evaluator(knowledge)
    before = evaluator.scorecard(project.system_under_test(live))
    after = evaluator.scorecard(SystemUnderTest(project.retriever(removal.index), project.current_model(live)))
    check = check_rows(project.index.rows(removal.index.version), removal.chunks)
    verdict = accept_removal(before, after, [check], project.workspace.params)
    return Proof(verdict, candidate, verdict, evaluator.golden.questions)
