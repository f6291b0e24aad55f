"""Tests of the retrieval metrics against values computed by hand."""

from __future__ import annotations

from math import log2

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.evaluation.retrieval_metrics import RankingScores, score_rankings, unique_documents

law = settings(derandomize=True, deadline=None)
DOCUMENTS = [f"{letter}.md" for letter in "abcdefghijklmnop"]
RANKINGS = st.lists(st.sampled_from(DOCUMENTS), unique=True, max_size=16)


def scores(ranking: list[str], grades: dict[str, int], k: int = 3) -> tuple[float, float, float]:
    metrics = score_rankings({"q": ranking}, {"q": grades}, k)
    return metrics.recall, metrics.ndcg10, metrics.mrr


@pytest.mark.parametrize(
    ("ranking", "expected"),
    [
        (["a", "b", "c"], (1.0, 1.0, 1.0)),
        (["b", "a", "c"], (1.0, 1 / log2(3), 1 / 2)),
        (["b", "c", "a"], (1.0, 1 / 2, 1 / 3)),
        (["b", "c", "d", "a"], (0.0, 1 / log2(5), 1 / 4)),
        (["b", "c", "d"], (0.0, 0.0, 0.0)),
        ([*"bcdefghij", "a"], (0.0, 1 / log2(11), 1 / 10)),
        ([*"bcdefghijk", "a"], (0.0, 0.0, 0.0)),
        ([], (0.0, 0.0, 0.0)),
    ],
    ids=["first", "second", "third", "past k", "not there", "tenth", "eleventh", "empty"],
)
def test_one_relevant_document_scores_by_its_rank(ranking: list[str], expected: tuple[float, float, float]) -> None:
    assert scores(ranking, {"a": 1}) == pytest.approx(expected)


def test_two_relevant_documents_share_the_recall() -> None:
    # Found at ranks 2 and 4, of the best possible 1 and 2: (1/log2(3) + 1/log2(5)) / (1 + 1/log2(3)).
    expected = (1 / 2, (0.63093 + 0.43068) / 1.63093, 1 / 2)
    assert scores(["x", "a", "y", "b"], {"a": 1, "b": 1}) == pytest.approx(expected, abs=1e-4)


def test_a_higher_grade_counts_for_more_by_the_grade_itself() -> None:
    # Gains 1 and 2 at ranks 1 and 2, where 2 and 1 would be best: (1 + 2 * 0.63093) / (2 + 0.63093).
    assert scores(["a", "b"], {"a": 1, "b": 2})[1] == pytest.approx(2.26186 / 2.63093, abs=1e-4)


def test_a_document_of_grade_0_is_not_relevant() -> None:
    assert scores(["b", "a"], {"a": 1, "b": 0}) == pytest.approx((1.0, 1 / log2(3), 1 / 2))


@pytest.mark.parametrize(("k", "recall"), [(1, 0.0), (2, 0.5), (3, 0.5), (4, 1.0), (100, 1.0)])
def test_recall_is_taken_at_k(k: int, recall: float) -> None:
    assert scores(["x", "a", "y", "b"], {"a": 1, "b": 1}, k)[0] == recall


def test_the_means_are_over_all_ranked_questions_including_empty_rankings() -> None:
    relevant = {name: {"a": 1} for name in ("first", "third", "none", "not ranked")}
    metrics = score_rankings({"first": ["a"], "third": ["x", "y", "a"], "none": []}, relevant, 2)
    assert dict(metrics.per_question["third"]) == pytest.approx({"recall": 0.0, "ndcg10": 0.5, "mrr": 1 / 3})
    assert dict(metrics.per_question["none"]) == {"recall": 0.0, "ndcg10": 0.0, "mrr": 0.0}
    assert (metrics.recall, metrics.ndcg10, metrics.mrr) == pytest.approx((1 / 3, 1.5 / 3, (4 / 3) / 3))


def test_values_come_in_the_order_of_the_questions() -> None:
    relevant = {"z": {"a": 1}, "b": {"a": 1}}
    assert score_rankings({"z": ["x", "a"], "b": ["a"]}, relevant, 3).values("mrr") == [0.5, 1.0]
    assert score_rankings({"b": ["a"], "z": ["x", "a"]}, relevant, 3).values("mrr") == [1.0, 0.5]


def test_many_documents_keep_their_order() -> None:
    ranking = [f"{number:05}.md" for number in reversed(range(20_000))]
    assert scores(ranking, {ranking[12_345]: 1}, 12_345)[0] == 0.0
    assert scores(ranking, {ranking[12_345]: 1}, 12_346)[0] == 1.0


@law
@given(RANKINGS, st.integers(1, 16))
def test_a_better_rank_of_a_relevant_document_never_scores_less(ranking: list[str], k: int) -> None:
    grades = {"a.md": 1}
    later = scores(ranking, grades, k)
    earlier = scores(sorted(ranking, key=lambda document: document != "a.md"), grades, k)
    assert all(0 <= low <= high <= 1 for low, high in zip(later, earlier, strict=True))


@law
@given(RANKINGS)
def test_ranks_beyond_the_tenth_do_not_change_ndcg_and_reciprocal_rank(ranking: list[str]) -> None:
    assert scores(ranking, {"a.md": 1})[1:] == scores(ranking[:10], {"a.md": 1})[1:]


@pytest.mark.parametrize("relevant", [{}, {"other": {"a": 1}}, {"q": {}}, {"q": {"a": 0}}])
def test_a_question_without_a_relevant_document_raises(relevant: dict[str, dict[str, int]]) -> None:
    with pytest.raises(ValueError, match="'q' has no relevant document"):
        score_rankings({"q": ["a"]}, relevant, 3)


def test_a_document_ranked_twice_raises() -> None:
    with pytest.raises(ValueError, match="'q' holds a document twice"):
        score_rankings({"q": ["a", "b", "a"]}, {"q": {"a": 1}}, 3)


def test_metrics_without_questions_raise() -> None:
    with pytest.raises(ValueError, match="no questions"):
        score_rankings({}, {"q": {"a": 1}}, 3)


def test_a_document_has_the_rank_of_its_first_passage() -> None:
    assert unique_documents(["b", "a", "b", "c", "a"]) == ["b", "a", "c"]


def test_the_same_scores_are_the_same_find() -> None:
    assert score_rankings({"q": ["a"]}, {"q": {"a": 1}}, 3) == RankingScores(
        {"q": {"recall": 1.0, "ndcg10": 1.0, "mrr": 1.0}}
    )
