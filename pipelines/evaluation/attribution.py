"""Attribution of lost questions: which changed documents stand in their context, and so may have taken the answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from ragtide.pipelines.records.evaluation import GoldenQuestion, Scorecard, Verdict


def find_lost(before: Scorecard, after: Scorecard) -> list[str]:
    """The ids of the questions that the candidate answers worse than the live release, or no longer finds a gold
    passage for.
    """
    live = {answer.question: answer for answer in before.graded}
    return [
        answer.question
        for answer in after.graded
        if (earlier := live.get(answer.question))
        and (answer.score < earlier.score or (earlier.gold_retrieved and answer.gold_retrieved is False))
    ]


def attribute_lost(
    before: Scorecard, after: Scorecard, questions: Sequence[GoldenQuestion], changed: Collection[str]
) -> dict[str, tuple[str, ...]]:
    """The fewest of the `changed` documents that explain the lost questions, found greedily, the worst first.

    A lost question may be explained by a changed document among the sources of its answer, or by a changed document
    that it names itself. Of two documents with as many questions, the one that was in fewer of their contexts before is
    taken. Questions without such a document are in none of the lists.
    """
    sources = {answer.question: set(answer.sources) for answer in after.graded}
    earlier = {answer.question: set(answer.sources) for answer in before.graded}
    named = {question.id: set(question.docs) for question in questions}
    unexplained = {
        lost: {document for document in sources[lost] | named.get(lost, set()) if document in changed}
        for lost in find_lost(before, after)
    }
    behind: dict[str, tuple[str, ...]] = {}
    while counts := Counter(document for suspects in unexplained.values() for document in suspects):
        known = Counter(
            document for lost, suspects in unexplained.items() for document in suspects & earlier.get(lost, set())
        )
        worst = min(counts, key=lambda document: (-counts[document], known[document], document))
        behind[worst] = tuple(sorted(lost for lost, suspects in unexplained.items() if worst in suspects))
        unexplained = {lost: suspects for lost, suspects in unexplained.items() if worst not in suspects}
    return behind


def choose_withheld(verdict: Verdict, allowed: int) -> dict[str, tuple[str, ...]]:
    """The documents to withhold, the worst first, so that at most `allowed` of the lost questions are left.

    None for an accepted candidate, and where more of the lost questions than that have no changed document behind them.
    """
    lost = len(set(find_lost(verdict.before, verdict.after)) - {*verdict.excused})
    chosen: dict[str, tuple[str, ...]] = {}
    for document, questions in sorted(verdict.behind.items(), key=lambda item: (-len(item[1]), item[0])):
        if lost <= allowed:
            break
        chosen[document] = questions
        lost -= len(questions)
    return {} if verdict.accepted or lost > allowed else chosen
