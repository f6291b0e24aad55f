"""Can a monitor see how a project stands, from the text, from the file and from an exit code?"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from ragtide.flows.keep_current import keep_current
from ragtide.flows.prefect_server.metrics import metrics_text, outcome_of, write_metrics
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.release import Cycle
from tests.conftest import write_project
from tests.fakes import CountingEmbedder, CountingReader, forget
from tests.flows.cli.test_main import PAGE, fill, ragtide

MakeProject = Callable[..., Path]


def values(content: str) -> dict[str, float]:
    """Each sample's name, with its labels, and its value."""
    samples = [sample for family in text_string_to_metric_families(content) for sample in family.samples]
    return {" ".join([one.name, *(f"{k}={v}" for k, v in sorted(one.labels.items()))]): one.value for one in samples}


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The loop has turned once, and a page has come since."""
    root = fill(write_project(tmp_path_factory.mktemp("metrics") / "house"))
    keep_current(project=str(root))
    return root


def test_the_text_says_what_is_live_and_what_the_turns_have_done(turned: Path) -> None:
    forget()
    found = values(metrics_text(turned))
    [info] = [name for name in found if name.startswith("ragtide_live_release_info")]
    assert "release=1" in info
    assert "index_version=" in info
    assert found["ragtide_freshness_lag_seconds"] == 0
    assert 0 <= found["ragtide_source_age_seconds"] < 3600
    assert found["ragtide_waiting_approvals"] == 0
    assert found["ragtide_turns_total decision=REFRESH outcome=released"] == 1
    assert found["ragtide_embedded_chunks_total"] == 1
    assert found["ragtide_documents_set_aside"] == 0
    assert found["ragtide_last_turn_timestamp_seconds"] > 0
    assert 0 <= found["ragtide_release_answer_score"] <= 1
    # A monitor asks often: no model is asked anything.
    assert (CountingEmbedder.embedded, CountingReader.prompts) == ([], [])
    assert ragtide("metrics", "-p", str(turned))[1].splitlines()[0].startswith("# HELP ragtide_")


def test_a_turn_leaves_them_in_a_file_too(turned: Path) -> None:
    left = values((turned / ".ragtide/metrics.prom").read_text(encoding="utf-8"))
    assert left["ragtide_turns_total decision=REFRESH outcome=released"] == 1


def test_a_turn_logs_how_long_the_data_had_waited(turned: Path) -> None:
    [cycle] = Project.open(turned, no_progress).registry.history()
    assert 0 <= cycle.signals["freshness_lag_seconds"] < 3600
    assert 0 <= cycle.signals["source_age_seconds"] < 3600


def test_a_turn_that_fails_leaves_that_in_the_file(make_project: MakeProject) -> None:
    root = fill(make_project())
    (root / "data/golden/questions.jsonl").write_text("no JSON", encoding="utf-8")
    with pytest.raises(UserError, match="is not JSON"):
        keep_current(project=str(root))
    left = values((root / ".ragtide/metrics.prom").read_text(encoding="utf-8"))
    assert left["ragtide_last_turn_info decision=undecided outcome=failed turn=cycle-0001"] == 1
    assert left["ragtide_freshness_lag_seconds"] > 0


def test_before_the_first_turn_there_is_nothing_live_and_all_of_it_waits(make_project: MakeProject) -> None:
    root = fill(make_project())
    found = values(metrics_text(root))
    assert found["ragtide_freshness_lag_seconds"] > 0
    assert not [name for name in found if "live" in name or "last_turn" in name]
    assert not (root / ".ragtide/mlflow.db").exists()


def test_a_file_that_cannot_be_written_fails_no_run(turned: Path, tmp_path: Path) -> None:
    project = Project.open(turned, no_progress)
    (turned / "data/kb/pump.md").rename(tmp_path / "pump.md")
    try:
        write_metrics(project)
    finally:
        (tmp_path / "pump.md").rename(turned / "data/kb/pump.md")


def test_check_is_one_line_and_its_exit_code_an_alarm(make_project: MakeProject) -> None:
    root = fill(make_project())
    keep_current(project=str(root))
    code, out, _ = ragtide("status", "--check", "-p", str(root))
    assert (code, out.count("\n")) == (0, 1)
    assert out.startswith("current: cycle-0001 decided REFRESH for this data")
    settings = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    settings["freshness"] = {"max_lag_hours": 1e-9, "max_source_days": 300}
    (root / "params.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    fill(root, page=PAGE.replace("2027", "2031"))
    code, out, _ = ragtide("status", "--check", "-p", str(root))
    assert (code, out.count("\n")) == (4, 1)
    assert out.startswith("the index is 0 min behind the data")
    for path in (root / "data").rglob("*"):
        os.utime(path, (0, 0))
    assert "; no data has changed for " in ragtide("status", "--check", "-p", str(root))[1]
    assert "freshness" in ragtide("status", "-p", str(root))[1]
