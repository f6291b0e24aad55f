"""Regression suites: named groups of questions that a new model must still answer as well as the live release.

A new adapter is trained on today's examples and may forget what they do not show. So the gate scores it and the live
release on these questions too, beside the golden ones; only a drop counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from ragtide.pipelines.corpus import KnowledgeBase
from ragtide.pipelines.evaluation.evaluator import Evaluator, SystemUnderTest
from ragtide.pipelines.evaluation.questions import (
    REGRESSION,
    GoldenSet,
    earlier_questions,
    follow_docs,
    read_questions,
    split_stale,
)
from ragtide.pipelines.records.evaluation import GoldenQuestion, Scorecard, SuiteScore
from ragtide.pipelines.sampling import evenly_spaced
from ragtide.pipelines.workspace import Workspace

EARLIER, GENERAL = "earlier", "general"
YES_OR_NO = r"(?i)(yes|no)\W*"
# Instructions that no document answers and that any model of this kind should still follow, in our own wording.
INSTRUCTIONS: tuple[tuple[str, tuple[str, ...], str | None], ...] = (
    ("What is 7 plus 5?", ("12", "twelve"), None),
    ("What is 9 times 3?", ("27",), None),
    ("What is 20 minus 8?", ("12", "twelve"), None),
    ("Which number is larger, 15 or 51?", ("51",), None),
    ("Which number comes next: 2, 4, 6, 8?", ("10", "ten"), None),
    ("How many days does a week have?", ("7", "seven"), None),
    ("How many months does a year have?", ("12", "twelve"), None),
    ("Which day comes after Monday?", ("Tuesday",), None),
    ("What is the capital of France?", ("Paris",), None),
    ("What is the capital of Japan?", ("Tokyo",), None),
    ("What is the capital of Italy?", ("Rome",), None),
    ("Which planet do we live on?", ("Earth",), None),
    ("What is the opposite of hot?", ("cold",), None),
    ("What is the past tense of the verb go?", ("went",), None),
    ("What is the plural of the word mouse?", ("mice",), None),
    ("How does one say thank you in French?", ("merci",), None),
    ("Is ice colder than steam? Answer with yes or no.", ("yes",), YES_OR_NO),
    ("Is 3 larger than 8? Answer with yes or no.", ("no",), YES_OR_NO),
    ("Repeat this word and nothing else: lantern", ("lantern",), r"(?i)\W*lantern\W*"),
    ("Write the word river in capital letters.", ("river",), r"(?s).*RIVER.*"),
)


@dataclass(frozen=True)
class RegressionSuite:
    """Questions on one thing that a model must not forget; without `with_passages` they are asked without context."""

    name: str
    questions: tuple[GoldenQuestion, ...]
    with_passages: bool = True


def regression_suites(workspace: Workspace, knowledge: KnowledgeBase, golden: GoldenSet) -> tuple[RegressionSuite, ...]:
    """Return the suites for a candidate with another model, each cut to `gate.suite_questions`, evenly spaced.

    Each file below regression/ in the golden folder is a suite; so are the golden questions of earlier snapshots
    ("earlier") and, where `gate.general` is set, plain instructions ("general"). A file with one of these two names
    replaces that suite. Questions that the documents cannot answer are skipped, and so are suites whose tolerance
    allows every answer to be lost.
    """
    gate = workspace.params.gate
    from_files = _suites_from_files(workspace, knowledge)
    known = (*golden.questions, *(question for suite in from_files for question in suite.questions))
    earlier = earlier_questions(workspace, GoldenSet(known, golden.stale), knowledge.texts, knowledge.paths)
    suites = {
        EARLIER: RegressionSuite(EARLIER, earlier),
        GENERAL: RegressionSuite(GENERAL, general_questions() if gate.general else (), with_passages=False),
    }
    suites |= {suite.name: suite for suite in from_files}
    limited = [
        replace(suite, questions=tuple(evenly_spaced(suite.questions, gate.suite_questions)))
        for suite in suites.values()
    ]
    return tuple(suite for suite in limited if suite.questions and gate.allowed_loss(suite.name) < 1)


def general_questions() -> tuple[GoldenQuestion, ...]:
    """Return the plain instructions as questions."""
    return tuple(
        GoldenQuestion(id=f"{GENERAL}-{number}", question=text, answers=answers, docs=(), format=form)
        for number, (text, answers, form) in enumerate(INSTRUCTIONS, start=1)
    )


def score_suites(
    suites: Sequence[RegressionSuite], evaluator: Evaluator, live: SystemUnderTest, candidate: SystemUnderTest
) -> tuple[SuiteScore, ...]:
    """Score the live release and the candidate on each suite."""
    return tuple(
        SuiteScore(
            name=suite.name, before=_scorecard(suite, evaluator, live), after=_scorecard(suite, evaluator, candidate)
        )
        for suite in suites
    )


def _scorecard(suite: RegressionSuite, evaluator: Evaluator, system: SystemUnderTest) -> Scorecard:
    without_index = SystemUnderTest(reader=None, model=system.model)
    return evaluator.asking(suite.questions).scorecard(
        system if suite.with_passages else without_index, with_searches=False
    )


def outdated_suite_paths(workspace: Workspace, knowledge: KnowledgeBase) -> dict[str, str]:
    """The paths that lines of suite files name although the document has moved -> today's."""
    questions = read_questions(workspace.golden, _suite_files(knowledge)) if _suite_files(knowledge) else ()
    return knowledge.paths.outdated(document for question in questions for document in question.docs)


def _suite_files(knowledge: KnowledgeBase) -> dict[str, str]:
    return {path: digest for path, digest in knowledge.snapshot.questions.items() if path.startswith(REGRESSION)}


def _suites_from_files(workspace: Workspace, knowledge: KnowledgeBase) -> list[RegressionSuite]:
    """Read the files below regression/, each a suite named after its path without the ending."""
    files = _suite_files(knowledge)
    suites = []
    for path, digest in sorted(files.items()):
        questions = follow_docs(read_questions(workspace.golden, {path: digest}), knowledge.paths)
        name = PurePosixPath(path.removeprefix(REGRESSION)).with_suffix("").as_posix()
        suites.append(RegressionSuite(name, split_stale(questions, knowledge.texts).questions))
    return suites
