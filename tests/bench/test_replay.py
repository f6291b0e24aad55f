"""Tests of the replay benchmark: which policies run under which rules, and a policy of one's own by one command."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench import replay
from bench.rates import Rates
from bench.recorded_states import Recording, read_recording, write_recording
from bench.replay import DEFAULT, DUE, MAX_LAG, Contestant, ReplaySetup, contestants, main
from bench.streams import Stream
from ragtide.pipelines.policy.registry import BUILT_IN
from tests.bench.test_regret import recording, step

RATES = Rates(
    answer_seconds=0.5,
    loss_seconds=0.1,
    example_seconds=1.0,
    refresh_seconds=0.5,
    chunk_seconds=0.01,
    pair_seconds=0.1,
)
OWN = "tests.fakes:AlwaysTunes"


def small(name: str, split: str) -> Recording:
    return recording(step(1, 1, 3, 3), step(1, 1, 3, 3, data="s2")).model_copy(update={"name": name, "split": split})


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Return a folder with two recordings and the rates."""
    for name, split in (("facts", "tune"), ("skill", "test")):
        write_recording(small(name, split), tmp_path / f"{name}.json.gz")
    RATES.write(tmp_path / "rates.json")
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["replay", *map(str, words)])
    return main()


def test_every_built_in_policy_takes_part_and_only_the_default_with_what_is_due() -> None:
    listed = {contestant.name: contestant for contestant in contestants()}
    assert listed.keys() == {*BUILT_IN, DUE}
    assert {name for name, contestant in listed.items() if contestant.max_lag_hours is not None} == {DEFAULT, DUE}


def test_settings_go_to_the_policy_its_baseline_or_the_freshness_target() -> None:
    chosen = {"gain_lasts_cycles": 3, "baseline.period_cycles": 2, MAX_LAG: 24}
    contestant = Contestant("own", "evidence", 0.0).with_settings(chosen)
    params = contestant.params(150.0)
    assert (params.points_per_hour, params.gain_lasts_cycles, params.baseline.period_cycles) == (150.0, 3.0, 2)
    assert contestant.max_lag_hours == 24


def test_a_policy_of_ones_own_is_scored_by_one_command(
    recordings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--policy", OWN, "--recordings", recordings) == 0
    shown = capsys.readouterr().out
    assert f"**{OWN}**" in shown
    assert all(f"| {name} |" in shown for name in (*BUILT_IN, DUE, "facts", "skill"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--policy", "nowhere:Nothing"), "nowhere:Nothing"),
        (("--policy", "evidence", "--setting", "gain"), "KEY=VALUE"),
        (("--policy", "evidence", "--setting", "gains=3"), "gains"),
        (("--streams", "unknown"), "unknown"),
        (("--record", "facts"), "facts"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    words: tuple[str, ...],
    message: str,
    recordings: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, *words, "--recordings", recordings) == 1
    told = capsys.readouterr().err
    assert told.startswith("bench.replay: ")
    assert message in told
    assert told.count("\n") == 1


def test_without_every_stream_nothing_is_written(
    recordings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(replay, "RESULTS", recordings / "results.json")
    assert run(monkeypatch, "--recordings", recordings) == 0
    assert not (recordings / "results.json").exists()
    assert f"**{DEFAULT}**" in capsys.readouterr().out


def test_two_processes_do_not_record_the_same_stream(tmp_path: Path) -> None:
    with replay._claimed(tmp_path / "facts.lock") as first, replay._claimed(tmp_path / "facts.lock") as second:
        assert (first, second) == (True, False)
    with replay._claimed(tmp_path / "facts.lock") as again:
        assert again


def test_the_settings_are_tuned_on_the_tuning_split_alone(recordings: Path) -> None:
    setup = ReplaySetup.read(recordings, ["facts", "skill"])
    assert {run.stream for run in replay.replay(setup, contestants()[0], "tune")} == {"facts"}
    assert len(replay.replay(setup, contestants()[0])) == 2 * len(replay.PRICES)


def test_tuning_names_the_best_settings_of_each_configurable_policy(
    recordings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(replay, "GRIDS", {"periodic": {"baseline.period_cycles": (1, 6)}})
    assert run(monkeypatch, "--tune", "--recordings", recordings) == 0
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("periodic: ")
    assert line.count("baseline.period_cycles") == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--data", "."), ["drip"]),
        (("--data", ".", "--record", "facts"), ["facts"]),
        (("--data", ".", "--streams", "facts"), []),
    ],
)
def test_what_has_no_recording_is_recorded_or_what_is_named(
    words: tuple[str, ...], expected: list[str], recordings: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recorded: list[str] = []

    class FakeStage:
        def __init__(self, stream: Stream, _root: Path, _progress: object) -> None:
            self._stream = stream

        def carry_out(self) -> Recording:
            recorded.append(self._stream.name)
            return small(self._stream.name, self._stream.split)

    monkeypatch.setattr(replay, "Stage", FakeStage)
    monkeypatch.setattr(replay, "missing", lambda _: [])
    monkeypatch.setattr(replay, "prepare_environment", lambda _: None)
    monkeypatch.setattr(replay, "streams", lambda _: [Stream(name, (), "test") for name in ("facts", "skill", "drip")])
    assert run(monkeypatch, *words, "--recordings", recordings, "--work", tmp_path / "work", "--record-only") == 0
    assert recorded == expected
    assert read_recording(recordings / "facts.json.gz").name == "facts"
