"""Retention of what a person may be found in: traces, cached answers, converted texts and logs of defects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.evaluation.assistant import expire_answers
from ragtide.pipelines.index.maintenance import remove_paths
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.release import MaintenanceStep


@dataclass(frozen=True)
class ExpiredContent:
    """What one store holds beyond its retention: how many of `what`, and the `days`; None: kept for ever."""

    store: str
    what: str
    days: float | None
    count: int

    def step(self, dry_run: bool) -> MaintenanceStep:
        """The maintenance step that deletes it, or would with `dry_run`."""
        if self.days is None:
            why = f"{self.what} are kept for ever"
        else:
            why = f"{self.count or 'no'} {self.what} are older than {self.days:g} days"
        return MaintenanceStep(step=f"delete old {self.store}", done=bool(self.count) and not dry_run, why=why)


def delete_expired(project: Project, dry_run: bool = False) -> list[ExpiredContent]:
    """Delete what is older than `retention` allows, or with `dry_run` only count it. The caller holds the lease."""
    workspace, now = project.workspace, datetime.now(UTC)
    params = workspace.params.retention
    traces = answers = 0
    if params.traces_days is not None:
        traces = project.registry.delete_traces(now - timedelta(days=params.traces_days), dry_run)
    if params.answers_days is not None:
        answers = expire_answers(workspace, params.answers_days, dry_run)
    texts, logs = list(_old_texts(project, params.texts_days)), list(_old_files(workspace.logs, params.logs_days))
    if not dry_run:
        remove_paths([*texts, *logs])
    return [
        ExpiredContent("traces", "questions with their answers in MLflow", params.traces_days, traces),
        ExpiredContent("answers", "cached answers", params.answers_days, answers),
        ExpiredContent("texts", "converted texts of deleted or edited documents", params.texts_days, len(texts)),
        ExpiredContent("logs", "logs of defects", params.logs_days, len(logs)),
    ]


def _old_texts(project: Project, days: float | None) -> Iterator[Path]:
    """The converted texts of contents that the data folder no longer has; those of its documents stay."""
    old = list(_old_files(project.workspace.texts, days))
    current = set(take_snapshot(project.workspace).documents.values()) if old else set()
    # A file is named by the digest of the document, as in `DIGEST-CONVERTER.pdf`.
    yield from (path for path in old if path.name.partition("-")[0] not in current)


def _old_files(folder: Path, days: float | None) -> Iterator[Path]:
    if days is None or not folder.is_dir():
        return
    before = (datetime.now(UTC) - timedelta(days=days)).timestamp()
    yield from (path for path in sorted(folder.iterdir()) if path.is_file() and path.stat().st_mtime < before)
