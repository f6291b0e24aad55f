"""What could the live release do that a new model must still be able to do? Skills: named groups of questions.

A new adapter is trained on the examples of today, and what these do not show it may forget. So the gate asks it, beside
the golden questions, what was asked before; the live release is asked the same, and only what falls counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from ragtide.pipelines.corpus import KnowledgeBase
from ragtide.pipelines.evaluation.evaluator import Evaluator, SystemUnderTest
from ragtide.pipelines.evaluation.questions import REGRESSION, GoldenSet, earlier_questions, read_questions, split_stale
from ragtide.pipelines.params import GateParams
from ragtide.pipelines.records.evaluation import GoldenQuestion, Scorecard, SuiteScore
from ragtide.pipelines.sampling import evenly_spaced
from ragtide.pipelines.workspace import Workspace

EARLIER, GENERAL = "earlier", "general"
YES_OR_NO = r"(?i)(yes|no)\W*"
# Nothing that a document says: instructions that any model of this kind should still follow. Our own wording.
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
    """Questions that say together whether something is still known; without `with_passages` they are asked alone."""

    name: str
    questions: tuple[GoldenQuestion, ...]
    with_passages: bool = True


def regression_suites(workspace: Workspace, knowledge: KnowledgeBase, golden: GoldenSet) -> tuple[RegressionSuite, ...]:
    """What a candidate with another model is held to; of each skill `gate.suite_questions`, evenly spaced.

    A skill is each file below regression/ in the golden folder, the golden questions of earlier snapshots, and, where
    `gate.general` is set, plain instructions. A file of that name takes the place of one of the latter two. Questions
    that the documents cannot answer are left out, and skills of which everything may be lost.
    """
    gate = workspace.params.gate
    kept = _kept(workspace, knowledge)
    asked = tuple(question for skill in kept for question in skill.questions)
    earlier = earlier_questions(workspace, GoldenSet((*golden.questions, *asked), golden.stale), knowledge.texts)
    found = {
        EARLIER: RegressionSuite(EARLIER, earlier),
        GENERAL: RegressionSuite(GENERAL, general_questions() if gate.general else (), False),
    }
    found |= {skill.name: skill for skill in kept}
    limited = [RegressionSuite(one.name, _some(one.questions, gate), one.with_passages) for one in found.values()]
    return tuple(one for one in limited if one.questions and gate.allowed_loss(one.name) < 1)


def general_questions() -> tuple[GoldenQuestion, ...]:
    """Plain instructions as questions."""
    return tuple(
        GoldenQuestion(id=f"{GENERAL}-{number}", question=text, answers=answers, docs=(), format=form)
        for number, (text, answers, form) in enumerate(INSTRUCTIONS, start=1)
    )


def score_suites(
    some: Sequence[RegressionSuite], examiner: Evaluator, live: SystemUnderTest, candidate: SystemUnderTest
) -> tuple[SuiteScore, ...]:
    """How both answer each skill's questions."""
    return tuple(
        SuiteScore(name=one.name, before=_answers(one, examiner, live), after=_answers(one, examiner, candidate))
        for one in some
    )


def _answers(skill: RegressionSuite, examiner: Evaluator, subject: SystemUnderTest) -> Scorecard:
    alone = SystemUnderTest(reader=None, model=subject.model)
    return examiner.asking(skill.questions).scorecard(subject if skill.with_passages else alone, with_searches=False)


def _kept(workspace: Workspace, knowledge: KnowledgeBase) -> list[RegressionSuite]:
    """The files below regression/, each under its name without the ending."""
    files = {path: digest for path, digest in knowledge.snapshot.questions.items() if path.startswith(REGRESSION)}
    return [
        RegressionSuite(
            _name(path), split_stale(read_questions(workspace.golden, {path: digest}), knowledge.texts).questions
        )
        for path, digest in sorted(files.items())
    ]


def _name(path: str) -> str:
    return PurePosixPath(path.removeprefix(REGRESSION)).with_suffix("").as_posix()


def _some(questions: Sequence[GoldenQuestion], gate: GateParams) -> tuple[GoldenQuestion, ...]:
    return tuple(evenly_spaced(questions, gate.suite_questions))
