"""Does the training benchmark compare like with like, and say what it must where it has nothing to measure?"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bench import finetune as bench
from bench.finetune import TAUGHT, Measured, Side, Took, main, read_lessons, report
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
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What goes into the README, by the name of its table; results go below the test's own folder."""
    tables: dict[str, str] = {}
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(bench, "put_table", tables.__setitem__)
    return tables


def test_speedups_are_against_trl_as_it_comes_and_against_the_faster_tuned_one(
    told: dict[str, str], tmp_path: Path
) -> None:
    report(SPEEDS, {"score_before": 0.1, "score_after": 0.9})
    result = json.loads((tmp_path / "results/finetune.json").read_text(encoding="utf-8"))
    assert (result["speedup_vs_trl_default"], result["speedup_vs_trl_tuned"]) == (4.0, 1.6)
    assert (result["peak_rss_mb"], result["score_before"], result["score_after"]) == (900, 0.1, 0.9)
    assert "retained_share" not in result
    assert "| TRL, tuned and packed | 125 | 1.60 | 0.500 | 1000 MB |" in told["finetune"]
    assert "| TRL, as it comes | 50 | 4.00 |  | 1000 MB |" in told["finetune"]


def test_what_was_measured_of_skills_is_taken_along(told: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results/skills.json").write_text('{"retained_share": 0.97}', encoding="utf-8")
    report(SPEEDS, {"score_before": 0.1, "score_after": 0.9})
    result = json.loads((tmp_path / "results/finetune.json").read_text(encoding="utf-8"))
    assert result["retained_share"] == 0.97


def test_every_side_but_ours_is_a_setting_of_trl_and_only_whole_runs_have_a_loss() -> None:
    assert {Side.RAGTIDE, *TRL} == set(Side)
    assert {side for side in Side if side.lessons < TAUGHT} == {Side.TRL_DEFAULT}


def test_lessons_are_read_as_they_were_written(tmp_path: Path) -> None:
    row = {"prompt": [{"role": "user", "content": "When?"}], "completion": "Now.", "documents": ["a.md"]}
    (tmp_path / "lessons.json").write_text(json.dumps([row] * (TAUGHT + 2)), encoding="utf-8")
    taught, held_out = read_lessons(tmp_path)
    assert (len(taught), len(held_out)) == (TAUGHT, 2)
    assert (taught[0].prompt[0].content, taught[0].completion, taught[0].documents) == ("When?", "Now.", ("a.md",))


def test_absent_data_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench.finetune", "--data", str(tmp_path / "nowhere")])
    assert main() == 1
    assert capsys.readouterr().err.endswith("has no eol/snapshot_24: name the data with --data\n")


def test_what_a_side_took_survives_its_way_out_of_the_process() -> None:
    took = Took(cpu_seconds=1.5, peak_rss_mb=7)
    assert Took.model_validate_json(took.model_dump_json()) == took
