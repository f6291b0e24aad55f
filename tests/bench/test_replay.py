"""Are the rates of a machine taken once, and again where they do not tell what a tuning takes?"""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import replay
from bench.rates import Rates
from bench.replay import measured
from bench.streams import Stream

RATES = Rates(answer_seconds=1.0, loss_seconds=0.1, example_seconds=2.0, refresh_seconds=3.0, chunk_seconds=0.01)


@pytest.mark.parametrize(("pair_seconds", "times"), [(0.2, 0), (0.0, 1)])
def test_rates_that_make_tuning_free_are_taken_again(
    pair_seconds: float, times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Stream] = []

    def measure(stream: Stream) -> Rates:
        taken.append(stream)
        return RATES.model_copy(update={"pair_seconds": 0.3})

    monkeypatch.setattr(replay, "measure", measure)
    RATES.model_copy(update={"pair_seconds": pair_seconds}).write(tmp_path / "rates.json")
    stream = Stream("small", (), "test")
    found = [measured(stream, tmp_path) for _ in range(2)]
    assert len(taken) == times
    assert {one.pair_seconds for one in found} == {pair_seconds or 0.3}
