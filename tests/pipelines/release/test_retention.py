"""Tests of retention: what is older than the limits is deleted, what is younger or in use stays."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Trace
from mlflow.tracking import MlflowClient

from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.evaluation.answers import AnswerRow
from ragtide.pipelines.evaluation.assistant import Answerer, expire_answers
from ragtide.pipelines.models.load import load_models
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.project import Project
from ragtide.pipelines.registry import runs
from ragtide.pipelines.release.cleanup import maintain_project
from ragtide.pipelines.release.retention import ExpiredContent, delete_expired
from tests.conftest import write_project
from tests.factories import BASE, graded, question, write
from tests.projects import release_of

DAY = 24 * 3600.0


@pytest.fixture
def opened(tmp_path: Path) -> Project:
    project = Project.open(write_project(tmp_path / "project"), no_progress)
    write(project.workspace.kb / "pump.md", "# Pump\n\n- End of life: 2027-01-01\n")
    return project


def expired(project: Project, store: str, dry_run: bool = False) -> ExpiredContent:
    [content] = [content for content in delete_expired(project, dry_run) if content.store == store]
    return content


def log_traces(project: Project, days: float, monkeypatch: pytest.MonkeyPatch, count: int = 2) -> None:
    """Log evaluation traces as they were so many days ago."""
    monkeypatch.setattr(runs, "_now", lambda: int((time.time() - days * DAY) * 1000))
    release = project.registry.champion()
    assert release is not None
    with project.registry.evaluation(release) as log:
        log.traces([AnswerRow(question(f"q{number}"), graded(f"q{number}")) for number in range(count)])


def traces(project: Project) -> Sequence[Trace]:
    client: Any = MlflowClient(project.workspace.tracking_uri)
    return list(client.search_traces(locations=[project.registry.experiment]))


def test_old_traces_are_deleted_and_young_ones_stay(opened: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    release_of(opened, BASE)
    log_traces(opened, 31, monkeypatch)
    log_traces(opened, 29, monkeypatch, count=3)
    assert (expired(opened, "traces", dry_run=True).count, len(traces(opened))) == (2, 5)
    assert (expired(opened, "traces").count, len(traces(opened))) == (2, 3)
    assert expired(opened, "traces").count == 0


def test_maintenance_names_every_store_and_a_dry_run_deletes_nothing(
    opened: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    release_of(opened, BASE)
    log_traces(opened, 31, monkeypatch)
    would = {step.step: step for step in maintain_project(opened, dry_run=True)}
    assert not would["delete old traces"].done
    assert len(traces(opened)) == 2
    done = {step.step: step for step in maintain_project(opened)}
    assert done["delete old traces"].done
    assert done["delete old traces"].why == would["delete old traces"].why
    assert {"delete old answers", "delete old texts", "delete old logs"} <= done.keys()
    assert traces(opened) == []


def old_file(path: Path, days: float) -> Path:
    then = time.time() - days * DAY
    write(path, "text")
    os.utime(path, (then, then))
    return path


def test_texts_of_contents_that_the_folder_still_has_stay(opened: Project) -> None:
    [digest] = take_snapshot(opened.workspace).documents.values()
    current = old_file(opened.workspace.texts / f"{digest}-1.md", 300)
    deleted = old_file(opened.workspace.texts / f"{'0' * 32}-1.pdf", 31)
    young = old_file(opened.workspace.texts / f"{'1' * 32}-1.pdf", 29)
    assert expired(opened, "texts", dry_run=True).count == 1
    assert deleted.exists()
    assert expired(opened, "texts").count == 1
    assert [path.exists() for path in (current, deleted, young)] == [True, False, True]


def test_old_logs_of_defects_are_deleted(opened: Project) -> None:
    old, young = (old_file(opened.workspace.logs / f"defect-{days}.txt", days) for days in (31, 29))
    assert expired(opened, "logs").count == 1
    assert (old.exists(), young.exists()) == (False, True)


def test_cached_answers_end(opened: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    answerer = Answerer(opened.workspace, load_models(opened.workspace.params), no_progress)
    answerer._through_cache(_request("old"), ["x"])
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 20 * DAY)
    answerer._through_cache(_request("young"), ["x"])
    monkeypatch.setattr(time, "time", lambda: now + 31 * DAY)
    assert expire_answers(opened.workspace, 30, dry_run=True) == 1
    assert expire_answers(opened.workspace, 30) == 1
    assert expire_answers(opened.workspace, 30) == 0


def test_answers_of_earlier_versions_get_an_end(opened: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    retention = opened.workspace.params.retention.model_copy(update={"answers_days": None})
    params = opened.workspace.params.model_copy(update={"retention": retention})
    workspace = type(opened.workspace)(opened.workspace.root, params)
    Answerer(workspace, load_models(params), no_progress)._through_cache(_request("old"), ["x"])
    assert expire_answers(workspace, 7) == 0
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 8 * DAY)
    assert expire_answers(workspace, 7) == 1


def _request(key: str) -> Any:
    from ragtide.pipelines.evaluation.assistant import CachedRequest

    return CachedRequest("answering", [key], lambda inputs, _: ["answer" for _ in inputs])


def test_what_is_kept_for_ever_is_not_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forever = dict.fromkeys(("traces_days", "answers_days", "texts_days", "logs_days"))
    project = Project.open(write_project(tmp_path / "project", retention=forever), no_progress)
    write(project.workspace.kb / "pump.md", "# Pump\n\n- End of life: 2027-01-01\n")
    release_of(project, BASE)
    log_traces(project, 900, monkeypatch)
    log = old_file(project.workspace.logs / "defect.txt", 900)
    assert [content.count for content in delete_expired(project)] == [0, 0, 0, 0]
    assert log.exists()
    assert len(traces(project)) == 2


def test_a_project_without_an_index_reports_only_what_is_deleted(opened: Project) -> None:
    assert maintain_project(opened) == []
    old_file(opened.workspace.logs / "defect.txt", 31)
    assert [step.step for step in maintain_project(opened)] == ["delete old logs"]
