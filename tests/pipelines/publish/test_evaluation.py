"""Do the numbers of an evaluation say what the scorecard says, and does the page show what went wrong first?"""

from __future__ import annotations

from pipelines.publish.evaluation import scorecard_markdown, scorecard_metrics
from pipelines.records import Retrieval
from tests.factories import graded, scorecard


def test_the_metrics_are_the_measures_and_what_each_search_finds() -> None:
    found = Retrieval(k=3, recall=0.5, ndcg10=0.4, mrr10=0.3, n=2)
    card = scorecard(graded("a", 1.0), graded("b", 0.0), retrieval={"hybrid": found})
    metrics = scorecard_metrics(card)
    assert metrics["answer_score"] == card.answer_score.value
    assert metrics["questions"] == 2
    assert (metrics["hybrid_recall"], metrics["hybrid_ndcg10"]) == (0.5, 0.4)


def test_the_page_lists_what_is_answered_worst_first_and_breaks_on_no_question() -> None:
    card = scorecard(graded("a", 1.0), graded("b", 0.5), graded("c", 0.0))
    page = scorecard_markdown(card, {"b": "B?", "c": "C |\nor D?"})
    assert "1 of 3 questions are answered in full." in page
    worst = [line for line in page.splitlines() if line.endswith(("| 0 |", "| 0.5 |"))]
    assert worst == ["| C \\| or D? | 42 | 0 |", "| B? | 42 | 0.5 |"]


def test_a_page_without_mistakes_lists_none() -> None:
    assert "Answered worst" not in scorecard_markdown(scorecard(graded("a", 1.0)), {})
