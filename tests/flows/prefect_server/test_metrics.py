"""Tests of the metrics: over HTTP, in the file, and as the exit code of `ragtide status --check`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from ragtide.flows.keep_current import keep_current
from ragtide.flows.prefect_server.metrics import metrics_text, write_metrics
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.history import freshness
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.project import Project
from tests.conftest import write_project
from tests.fakes import CountingEmbedder, CountingReader, forget
from tests.flows.cli.commands import PAGE, fill, ragtide

MakeProject = Callable[..., Path]


def values(content: str) -> dict[str, float]:
    """The value of each sample, by its name and labels."""
    samples = [sample for family in text_string_to_metric_families(content) for sample in family.samples]
    return {
        " ".join([sample.name, *(f"{key}={label}" for key, label in sorted(sample.labels.items()))]): sample.value
        for sample in samples
    }


@pytest.fixture(scope="module")
def after_cycle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one cycle."""
    root = fill(write_project(tmp_path_factory.mktemp("metrics") / "house"))
    keep_current(project=str(root))
    return root


def test_the_metrics_describe_the_live_release_and_the_cycles(after_cycle: Path) -> None:
    forget()
    metrics = values(metrics_text(after_cycle))
    [info] = [name for name in metrics if name.startswith("ragtide_live_release_info")]
    assert "release=1" in info
    assert "index_version=" in info
    assert metrics["ragtide_freshness_lag_seconds"] == 0
    assert 0 <= metrics["ragtide_source_age_seconds"] < 3600
    assert metrics["ragtide_pending_approvals"] == 0
    assert metrics["ragtide_cycles_total decision=REFRESH outcome=released"] == 1
    assert metrics["ragtide_embedded_chunks_total"] == 1
    assert metrics["ragtide_documents_quarantined"] == 0
    assert metrics["ragtide_last_cycle_timestamp_seconds"] > 0
    assert 0 <= metrics["ragtide_release_answer_score"] <= 1
    # The metrics are read often, so they must use no model.
    assert (CountingEmbedder.embedded, CountingReader.prompts) == ([], [])
    assert ragtide("metrics", "-p", str(after_cycle))[1].splitlines()[0].startswith("# HELP ragtide_")


def test_a_cycle_writes_the_metrics_file(after_cycle: Path) -> None:
    written = values((after_cycle / ".ragtide/metrics.prom").read_text(encoding="utf-8"))
    assert written["ragtide_cycles_total decision=REFRESH outcome=released"] == 1


def test_a_cycle_logs_the_age_of_the_data(after_cycle: Path) -> None:
    [cycle] = Project.open(after_cycle, no_progress).registry.history()
    assert 0 <= cycle.signals["freshness_lag_seconds"] < 3600
    assert 0 <= cycle.signals["source_age_seconds"] < 3600


def test_a_failed_cycle_is_in_the_metrics_file(make_project: MakeProject) -> None:
    root = fill(make_project())
    (root / "data/golden/questions.jsonl").write_text("no JSON", encoding="utf-8")
    with pytest.raises(UserError, match="is not JSON"):
        keep_current(project=str(root))
    written = values((root / ".ragtide/metrics.prom").read_text(encoding="utf-8"))
    assert written["ragtide_last_cycle_info cycle=cycle-0001 decision=undecided outcome=failed"] == 1
    assert written["ragtide_freshness_lag_seconds"] > 0


def test_before_the_first_cycle_nothing_is_live_and_the_data_is_late(make_project: MakeProject) -> None:
    root = fill(make_project())
    metrics = values(metrics_text(root))
    assert metrics["ragtide_freshness_lag_seconds"] > 0
    assert not [name for name in metrics if "live" in name or "last_cycle" in name]
    assert not (root / ".ragtide/mlflow.db").exists()


def test_metrics_that_cannot_be_computed_fail_no_run(after_cycle: Path, tmp_path: Path) -> None:
    project = Project.open(after_cycle, no_progress)
    (after_cycle / "data/kb/pump.md").rename(tmp_path / "pump.md")
    try:
        write_metrics(project)
    finally:
        (tmp_path / "pump.md").rename(after_cycle / "data/kb/pump.md")


def test_check_prints_one_line_and_exits_with_4_on_an_alarm(
    make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freshness, "UNSEEN_HOURS", 1e-9)
    root = fill(make_project())
    keep_current(project=str(root))
    code, out, _ = ragtide("status", "--check", "-p", str(root))
    assert (code, out.count("\n")) == (0, 1)
    assert "cycle-0001" in out
    settings = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    settings["freshness"] = {"max_lag_hours": 1e-9, "max_source_days": 300}
    (root / "params.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    fill(root, page=PAGE.replace("2027", "2031"))
    code, out, _ = ragtide("status", "--check", "-p", str(root))
    assert (code, out.count("\n")) == (4, 1)
    for path in (root / "data").rglob("*"):
        os.utime(path, (0, 0))
    assert ragtide("status", "--check", "-p", str(root))[1] != out
    assert "freshness" in ragtide("status", "-p", str(root))[1]
