"""Tests of fact checks and deletion checks against passages."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ragtide.pipelines.evidence.stale_facts import (
    LIMIT,
    FactCheckResult,
    resurfaced_share,
    run_fact_checks,
    stale_fact_share,
)
from ragtide.pipelines.evidence.text_changes import DeletionCheck, FactCheck
from ragtide.pipelines.index.search import Passage
from ragtide.pipelines.params import ScoreParams

PARAMS = ScoreParams(resamples=200)
FACT_CHECK = FactCheck("tool.md", "Tool > Tool 4\nLatest release: …", "4.1", "4.2")
DELETION_CHECK = DeletionCheck("tool.md", "Tool > Tool 2\nEnd of life: 2020-01-01", "End of life: 2020-01-01")
LONG = "The red house at the end of the long road holds"


class FixedRetriever:
    """A retriever that returns the same passages for any question, up to `top_k`, and records the questions."""

    def __init__(self, *passages: Passage) -> None:
        self.passages = list(passages)
        self.questions: list[str] = []

    def search(self, questions: Sequence[str], top_k: int) -> list[list[Passage]]:
        self.questions += questions
        return [self.passages[:top_k] for _ in questions]


def passage(text: str, heading: str = "Tool > Tool 4", document: str = "tool.md") -> Passage:
    return Passage(document=document, position=0, heading=heading, text=f"{heading}\n{text}", score=1.0)


def result_of(fact_check: FactCheck, *passages: Passage) -> FactCheckResult:
    return run_fact_checks([fact_check], FixedRetriever(*passages), top_k=3)[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- Released: 2024\n- Latest release: **4.2**", FactCheckResult.NEW),
        ("- Latest release: 4.1\n- Supported: yes", FactCheckResult.OLD),
        ("- Latest release: 4.1\n- Latest release: 4.2", FactCheckResult.NEW),
        ("- Latest release: 4.1.3", FactCheckResult.NEITHER),
        ("- First release: 4.1", FactCheckResult.NEITHER),
        ("Nothing of the kind.", FactCheckResult.NEITHER),
    ],
)
def test_a_passage_states_the_new_value_the_old_one_or_neither(text: str, expected: FactCheckResult) -> None:
    assert result_of(FACT_CHECK, passage(text)) is expected


def test_the_new_value_counts_at_any_rank_up_to_top_k() -> None:
    assert result_of(FACT_CHECK, passage("Latest release: 4.1"), passage("Latest release: 4.2")) is FactCheckResult.NEW
    assert run_fact_checks(
        [FACT_CHECK], FixedRetriever(passage("Latest release: 4.1"), passage("Latest release: 4.2")), 1
    ) == [FactCheckResult.OLD]


@pytest.mark.parametrize(
    ("heading", "document", "expected"),
    [
        ("Tool > Tool 4", "tool.md", FactCheckResult.OLD),
        ("The Tool > **Tool 4**", "tool.md", FactCheckResult.OLD),
        ("Tool > Tool 3", "tool.md", FactCheckResult.NEITHER),
        ("Tool > Tool 4", "renamed.md", FactCheckResult.OLD),
        ("Other > Tool 4", "other.md", FactCheckResult.NEITHER),
        ("", "tool.md", FactCheckResult.NEITHER),
    ],
)
def test_a_short_line_counts_only_under_its_own_heading(heading: str, document: str, expected: FactCheckResult) -> None:
    assert result_of(FACT_CHECK, passage("- Latest release: 4.1", heading, document)) is expected


def test_without_a_heading_a_short_line_counts_only_in_its_document() -> None:
    fact_check = FactCheck("a.txt", "Latest: …", "1", "2")
    assert result_of(fact_check, passage("Latest: 1", "", "a.txt")) is FactCheckResult.OLD
    assert result_of(fact_check, passage("Latest: 1", "", "b.txt")) is FactCheckResult.NEITHER


def test_a_sentence_of_many_words_counts_anywhere() -> None:
    fact_check = FactCheck("a.txt", f"{LONG} … rooms.", "7", "8")
    assert result_of(fact_check, passage(f"{LONG}\n7 rooms.", "Houses", "b.md")) is FactCheckResult.OLD
    assert (
        result_of(fact_check, passage(f"A road of 7 rooms. {LONG} many.", "Houses", "b.md")) is FactCheckResult.NEITHER
    )


def test_a_sentence_cut_far_from_the_value_is_matched() -> None:
    fact_check = FactCheck("a.txt", f"As was said before, and is said again: {LONG} … rooms.", "7", "8")
    assert result_of(fact_check, passage(f"{LONG} 7 rooms.", "", "a.txt")) is FactCheckResult.OLD


def test_the_stale_share_is_the_share_of_fact_checks_with_the_old_value() -> None:
    fact_checks = [FACT_CHECK, FactCheck("tool.md", "Tool > Tool 4\nSupported: …", "no 1", "yes 2")]
    stale = stale_fact_share(fact_checks, FixedRetriever(passage("Latest release: 4.1\nSupported: yes 2")), 3, PARAMS)
    assert (stale.value, stale.n) == (0.5, 2)
    current = stale_fact_share(fact_checks, FixedRetriever(passage("Latest release: 4.2")), 3, PARAMS)
    assert (current.value, current.n) == (0.0, 2)


def test_a_check_that_finds_neither_value_is_unmeasured() -> None:
    assert stale_fact_share([FACT_CHECK], FixedRetriever(), 3, PARAMS).value is None


def test_without_checks_the_shares_are_unmeasured() -> None:
    reader = FixedRetriever()
    stale, resurfaced = stale_fact_share([], reader, 3, PARAMS), resurfaced_share([], reader, 3, PARAMS)
    assert (stale.value, stale.n, stale.why) == (None, 0, "no fact was edited")
    assert (resurfaced.value, resurfaced.n, resurfaced.why) == (None, 0, "no sentence was removed")
    assert run_fact_checks([], reader, 3) == []
    assert reader.questions == []


def test_of_many_fact_checks_evenly_spaced_ones_are_run() -> None:
    fact_checks = [FactCheck("a.md", f"line {at} …", "1", "2") for at in range(10)]
    reader = FixedRetriever()
    assert len(run_fact_checks(fact_checks, reader, 3, limit=4)) == 4
    assert reader.questions == ["line 0 …", "line 2 …", "line 5 …", "line 7 …"]


def test_the_number_of_deletion_checks_is_limited() -> None:
    reader = FixedRetriever()
    deletion_checks = [DeletionCheck("a.md", f"line {at}", f"line {at}") for at in range(LIMIT + 50)]
    assert resurfaced_share(deletion_checks, reader, 3, PARAMS).n == len(reader.questions) == LIMIT


@pytest.mark.parametrize(
    ("text", "heading", "share"),
    [
        ("- End of life: *2020-01-01*", "Tool > Tool 2", 1.0),
        ("- End of life: 2020-01-01", "Tool > Tool 4", 0.0),
        ("- End of life: 2020-01-012", "Tool > Tool 2", 0.0),
        ("- Released: 2018-01-01", "Tool > Tool 2", 0.0),
    ],
)
def test_a_removed_short_line_resurfaces_only_under_its_own_heading(text: str, heading: str, share: float) -> None:
    assert resurfaced_share([DELETION_CHECK], FixedRetriever(passage(text, heading)), 3, PARAMS).value == share


def test_a_removed_sentence_of_many_words_resurfaces_anywhere() -> None:
    deletion_check = DeletionCheck("a.txt", f"{LONG} 7 rooms.", f"{LONG} 7 rooms.")
    assert (
        resurfaced_share(
            [deletion_check], FixedRetriever(passage(f"{LONG} 7 rooms.", "Houses", "b.md")), 3, PARAMS
        ).value
        == 1.0
    )
