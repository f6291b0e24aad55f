"""Tests of the training benchmark: speedups, the table, training samples and missing data."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bench import finetune as bench
from bench.finetune import TRAINED, Measured, Side, Usage, main, read_samples, report
from bench.peer.finetune_side import TRL


def measured(speed: float, memory: int = 1000, loss: float | None = 0.5) -> Measured:
    return Measured(cpu_seconds=1.0, peak_rss_mb=memory, tokens_a_second=speed, held_out_loss=loss)


SPEEDS = {
    Side.RAGTIDE: measured(200, 900),
    Side.TRL_DEFAULT: measured(50, loss=None),
    Side.TRL_TUNED: measured(100),
    Side.TRL_PACKED: measured(125),
}


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The tables written into the README, by name; result files go below the test's own folder."""
    written: dict[str, str] = {}
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(bench, "put_table", written.__setitem__)
    return written


def test_speedups_are_relative_to_trl_defaults_and_to_the_faster_tuned_trl(
    tables: dict[str, str], tmp_path: Path
) -> None:
    report(SPEEDS, {"score_before": 0.1, "score_after": 0.9})
    result = json.loads((tmp_path / "results/finetune.json").read_text(encoding="utf-8"))
    assert (result["speedup_vs_trl_default"], result["speedup_vs_trl_tuned"]) == (4.0, 1.6)
    assert (result["peak_rss_mb"], result["score_before"], result["score_after"]) == (900, 0.1, 0.9)
    assert "retained_share" not in result
    assert "| TRL, tuned and packed | 125 | 1.60 | 0.500 | 1000 MB |" in tables["finetune"]
    assert "| TRL, default settings | 50 | 4.00 |  | 1000 MB |" in tables["finetune"]


@pytest.mark.usefixtures("tables")
def test_the_retained_share_of_the_skills_benchmark_is_included(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results/skills.json").write_text('{"retained_share": 0.97}', encoding="utf-8")
    report(SPEEDS, {"score_before": 0.1, "score_after": 0.9})
    result = json.loads((tmp_path / "results/finetune.json").read_text(encoding="utf-8"))
    assert result["retained_share"] == 0.97


def test_every_other_trainer_is_a_setting_of_trl_and_only_the_default_one_trains_on_few_samples() -> None:
    assert {Side.RAGTIDE, *TRL} == set(Side)
    assert {side for side in Side if side.samples < TRAINED} == {Side.TRL_DEFAULT}


def test_training_samples_are_read_as_they_were_written(tmp_path: Path) -> None:
    row = {"prompt": [{"role": "user", "content": "When?"}], "completion": "Now.", "documents": ["a.md"]}
    (tmp_path / "samples.json").write_text(json.dumps([row] * (TRAINED + 2)), encoding="utf-8")
    trained_on, held_out = read_samples(tmp_path)
    assert (len(trained_on), len(held_out)) == (TRAINED, 2)
    first = trained_on[0]
    assert (first.prompt[0].content, first.completion, first.documents) == ("When?", "Now.", ("a.md",))


def test_missing_data_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench.finetune", "--data", str(tmp_path / "nowhere")])
    assert main() == 1
    assert "eol/snapshot_24" in capsys.readouterr().err


def test_usage_is_read_back_from_json() -> None:
    usage = Usage(cpu_seconds=1.5, peak_rss_mb=7)
    assert Usage.model_validate_json(usage.model_dump_json()) == usage
