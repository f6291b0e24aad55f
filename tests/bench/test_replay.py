"""Tests of the replay benchmark: a machine's rates are measured once and then kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import replay
from bench.rates import Rates
from bench.replay import measured
from bench.streams import Stream

RATES = Rates(
    answer_seconds=1.0,
    loss_seconds=0.1,
    example_seconds=2.0,
    refresh_seconds=3.0,
    chunk_seconds=0.01,
    pair_seconds=0.3,
)


def test_rates_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured_streams: list[Stream] = []

    def measure(stream: Stream) -> Rates:
        measured_streams.append(stream)
        return RATES

    monkeypatch.setattr(replay, "measure", measure)
    stream = Stream("small", (), "test")
    assert [measured(stream, tmp_path) for _ in range(2)] == [RATES, RATES]
    assert measured_streams == [stream]
