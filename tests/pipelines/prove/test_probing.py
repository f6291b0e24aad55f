"""Is an index called stale exactly where it gives the old value in the right place?"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pipelines.build.search import Passage
from pipelines.observe.probes import Canary, Probe
from pipelines.params import ScoreParams
from pipelines.prove.probing import LIMIT, Found, ask_probes, come_back, stale_answers

PARAMS = ScoreParams(resamples=200)
PROBE = Probe("tool.md", "Tool > Tool 4\nLatest release: …", "4.1", "4.2")
CANARY = Canary("tool.md", "Tool > Tool 2\nEnd of life: 2020-01-01", "End of life: 2020-01-01")
LONG = "The red house at the end of the long road holds"


class SameReader:
    """A reader that finds the same passages whatever it is asked, `top_k` of them, and keeps what it was asked."""

    def __init__(self, *passages: Passage) -> None:
        self.passages = list(passages)
        self.asked: list[str] = []

    def search(self, questions: Sequence[str], top_k: int) -> list[list[Passage]]:
        self.asked += questions
        return [self.passages[:top_k] for _ in questions]


def passage(text: str, heading: str = "Tool > Tool 4", document: str = "tool.md") -> Passage:
    return Passage(document=document, position=0, heading=heading, text=f"{heading}\n{text}", score=1.0)


def found(probe: Probe, *passages: Passage) -> Found:
    return ask_probes([probe], SameReader(*passages), top_k=3)[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- Released: 2024\n- Latest release: **4.2**", Found.NEW),
        ("- Latest release: 4.1\n- Supported: yes", Found.OLD),
        ("- Latest release: 4.1\n- Latest release: 4.2", Found.NEW),
        ("- Latest release: 4.1.3", Found.NEITHER),
        ("- First release: 4.1", Found.NEITHER),
        ("Nothing of the kind.", Found.NEITHER),
    ],
)
def test_a_passage_says_the_new_value_the_old_one_or_neither(text: str, expected: Found) -> None:
    assert found(PROBE, passage(text)) is expected


def test_the_new_value_counts_wherever_among_the_found_it_stands() -> None:
    assert found(PROBE, passage("Latest release: 4.1"), passage("Latest release: 4.2")) is Found.NEW
    assert ask_probes([PROBE], SameReader(passage("Latest release: 4.1"), passage("Latest release: 4.2")), 1) == [
        Found.OLD
    ]


@pytest.mark.parametrize(
    ("heading", "document", "expected"),
    [
        ("Tool > Tool 4", "tool.md", Found.OLD),
        ("The Tool > **Tool 4**", "tool.md", Found.OLD),
        ("Tool > Tool 3", "tool.md", Found.NEITHER),
        ("Tool > Tool 4", "renamed.md", Found.OLD),
        ("Other > Tool 4", "other.md", Found.NEITHER),
        ("", "tool.md", Found.NEITHER),
    ],
)
def test_a_short_line_counts_in_its_own_place_alone(heading: str, document: str, expected: Found) -> None:
    assert found(PROBE, passage("- Latest release: 4.1", heading, document)) is expected


def test_without_a_heading_a_short_line_counts_in_its_document_alone() -> None:
    probe = Probe("a.txt", "Latest: …", "1", "2")
    assert found(probe, passage("Latest: 1", "", "a.txt")) is Found.OLD
    assert found(probe, passage("Latest: 1", "", "b.txt")) is Found.NEITHER


def test_a_sentence_of_many_words_counts_anywhere() -> None:
    probe = Probe("a.txt", f"{LONG} … rooms.", "7", "8")
    assert found(probe, passage(f"{LONG}\n7 rooms.", "Houses", "b.md")) is Found.OLD
    assert found(probe, passage(f"A road of 7 rooms. {LONG} many.", "Houses", "b.md")) is Found.NEITHER


def test_a_sentence_that_is_cut_far_from_the_value_is_found() -> None:
    probe = Probe("a.txt", f"As was said before, and is said again: {LONG} … rooms.", "7", "8")
    assert found(probe, passage(f"{LONG} 7 rooms.", "", "a.txt")) is Found.OLD


def test_the_stale_share_is_that_of_old_values_among_all_probes() -> None:
    probes = [PROBE, Probe("tool.md", "Tool > Tool 4\nSupported: …", "no 1", "yes 2")]
    stale = stale_answers(probes, SameReader(passage("Latest release: 4.1\nSupported: yes 2")), 3, PARAMS)
    assert (stale.value, stale.n) == (0.5, 2)
    assert stale_answers(probes, SameReader(), 3, PARAMS).value == 0.0


def test_what_there_is_nothing_to_ask_about_is_not_measured() -> None:
    reader = SameReader()
    stale, back = stale_answers([], reader, 3, PARAMS), come_back([], reader, 3, PARAMS)
    assert (stale.value, stale.n, stale.why) == (None, 0, "no fact was edited")
    assert (back.value, back.n, back.why) == (None, 0, "no sentence was removed")
    assert ask_probes([], reader, 3) == []
    assert reader.asked == []


def test_of_many_probes_evenly_spaced_ones_are_asked() -> None:
    probes = [Probe("a.md", f"line {at} …", "1", "2") for at in range(10)]
    reader = SameReader()
    assert len(ask_probes(probes, reader, 3, limit=4)) == 4
    assert reader.asked == ["line 0 …", "line 2 …", "line 5 …", "line 7 …"]


def test_a_measure_asks_no_more_than_its_limit() -> None:
    reader = SameReader()
    canaries = [Canary("a.md", f"line {at}", f"line {at}") for at in range(LIMIT + 50)]
    assert come_back(canaries, reader, 3, PARAMS).n == len(reader.asked) == LIMIT


@pytest.mark.parametrize(
    ("text", "heading", "share"),
    [
        ("- End of life: *2020-01-01*", "Tool > Tool 2", 1.0),
        ("- End of life: 2020-01-01", "Tool > Tool 4", 0.0),
        ("- End of life: 2020-01-012", "Tool > Tool 2", 0.0),
        ("- Released: 2018-01-01", "Tool > Tool 2", 0.0),
    ],
)
def test_a_removed_sentence_comes_back_in_its_own_place_alone(text: str, heading: str, share: float) -> None:
    assert come_back([CANARY], SameReader(passage(text, heading)), 3, PARAMS).value == share


def test_a_removed_sentence_of_many_words_comes_back_anywhere() -> None:
    canary = Canary("a.txt", f"{LONG} 7 rooms.", f"{LONG} 7 rooms.")
    assert come_back([canary], SameReader(passage(f"{LONG} 7 rooms.", "Houses", "b.md")), 3, PARAMS).value == 1.0
