"""Golden losses: questions of the live release that the documents or the golden lines of now put out of play."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from pathlib import Path

from ragtide.pipelines.corpus import KnowledgeBase
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.evaluation.questions import GoldenSet, locate_earlier_questions, locate_questions, split_stale
from ragtide.pipelines.history.approvals import read_approvals
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.evaluation import GoldenQuestion
from ragtide.pipelines.records.evidence import GoldenLosses, StaleLine
from ragtide.pipelines.records.release import Release
from ragtide.pipelines.workspace import Workspace


def find_asked(release: Release | None, read: Callable[[str], Release]) -> set[str]:
    """The ids of the questions that the live release answers: those that it was asked when its index was made.

    A release since, from which only deleted documents were removed or that has another model, was not asked what was
    stale by then, and its index still has the text of before.
    """
    asked: set[str] = set()
    while release is not None:
        asked |= {answer.question for answer in release.scorecard.graded}
        if release.previous is None or (release.decision.refreshes and release.decision != Action.REMOVE):
            break
        try:
            release = read(release.previous)
        except UserError:
            break
    return asked


def find_golden_losses(
    workspace: Workspace, golden: GoldenSet, knowledge: KnowledgeBase, release: Release | None, asked: Set[str]
) -> GoldenLosses:
    """What the live release was asked and is stale now, what is stale once pending removals are approved, and lines.

    `asked` are the questions that the live release answers. One whose line was deleted is not lost, nor is one that was
    stale when its index was made, or of which a person has approved that it goes.
    """
    approved = {question for approval in read_approvals(workspace) for question in approval.questions}
    emptied = {name: text for name, text in knowledge.lost.texts.items() if name in knowledge.pending_deletions}
    remaining = {name: text for name, text in knowledge.texts.items() if name not in knowledge.pending_deletions}
    pending = split_stale(golden.questions, remaining | emptied).stale if knowledge.pending_deletions else ()
    return GoldenLosses(
        in_play=len(asked),
        lost=tuple(sorted((asked & {*golden.stale}) - approved)),
        pending=tuple(sorted((asked & {*pending}) - approved)),
        lines=_changed_stale_lines(workspace, golden, knowledge, release),
    )


def _changed_stale_lines(
    workspace: Workspace, golden: GoldenSet, knowledge: KnowledgeBase, release: Release | None
) -> tuple[StaleLine, ...]:
    """The stale lines that are new or were changed since the live release: an edit of the line made them stale."""
    files, before = knowledge.snapshot.questions, release.snapshot.questions if release else {}
    changed = {path: digest for path, digest in files.items() if before.get(path) != digest}
    if not golden.stale or not changed:
        return ()
    earlier: Mapping[str, GoldenQuestion] = {
        question.id: question for _, question in locate_earlier_questions(workspace, before)
    }
    stale = {*golden.stale}
    return tuple(
        StaleLine(where=_below(workspace.root, where), answer=question.answers[0], documents=question.docs)
        for where, question in locate_questions(workspace.golden, files)
        if question.id in stale and not _is_same(question, earlier.get(question.id))
    )


def _below(root: Path, where: str) -> str:
    return str(Path(where).relative_to(root)) if Path(where).is_relative_to(root) else where


def _is_same(question: GoldenQuestion, before: GoldenQuestion | None) -> bool:
    """Whether a line asks for the same as before; the paths of its documents may be others."""
    return before is not None and question.model_copy(update={"docs": before.docs}) == before
