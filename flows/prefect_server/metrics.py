"""What can a monitor read? How a project stands, in Prometheus' text form, over HTTP or from a file."""

from __future__ import annotations

from collections import Counter as Count
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow
from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics, generate_latest

from ragtide.flows.prefect_server.notifications import project_folder, run_logger
from ragtide.pipelines.errors import UserError, summarize_error
from ragtide.pipelines.history.costs import EMBEDDED_CHUNKS
from ragtide.pipelines.history.history import INDEX_GAP, LIVE_SCORE, MODEL_GAP, live_since
from ragtide.pipelines.planning.status import ProjectStatus, project_status
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.base import write_text_atomically
from ragtide.pipelines.records.release import Release

FILE = "metrics.prom"
# When a counter was made says nothing here: each answer makes its own, with all turns in it.
disable_created_metrics()  # type: ignore[no-untyped-call]


def metrics_text(project: Path) -> str:
    """The metrics of now. Raises RefusalError where the project cannot be looked at."""
    return _text(Project.open(project, no_progress))


def write_metrics(project: Project) -> None:
    """Write the metrics of now to .ragtide/metrics.prom, for node_exporter. Never raises: no run fails by it."""
    try:
        write_text_atomically(project.workspace.state / FILE, _text(project))
    except Exception as problem:  # noqa: BLE001 - a monitor's file is worth no run
        run_logger().warning("%s was not written: %s", FILE, summarize_error(problem))


def record_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001 - Prefect's form
    """Prefect's hook for a run that failed or crashed: the file says so too."""
    # A project that cannot be opened has failed for that, and has said so.
    with suppress(UserError):
        write_metrics(Project.open(project_folder(flow_run), no_progress))


def _text(project: Project) -> str:
    now = datetime.now(UTC)
    found, metrics = project_status(project, now), CollectorRegistry()
    _freshness(metrics, found, project)
    if found.live is not None:
        _live(metrics, found.live, found)
    _turns(metrics, found)
    return generate_latest(metrics).decode()


def _freshness(metrics: CollectorRegistry, found: ProjectStatus, project: Project) -> None:
    fresh = found.freshness
    lag = "Since the first change that is neither live nor let be."
    _gauge(metrics, "freshness_lag_seconds", lag, fresh.lag_seconds)
    if (age := fresh.source_age_seconds) is not None:
        _gauge(metrics, "source_age_seconds", "Since anything in the data folders was written.", age)
    alarms = fresh.alarms(project.workspace.params.freshness)
    _gauge(metrics, "freshness_alarm", "1 past a limit of params.yaml, freshness.", float(bool(alarms)))
    _gauge(metrics, "pending_approvals", "Plans that wait for a yes or a no.", float(found.pending is not None))


def _live(metrics: CollectorRegistry, live: Release, found: ProjectStatus) -> None:
    labels = {"release": live.id, "decision": str(live.decision), "data_rev": live.snapshot.id}
    labels |= {"index_version": str(live.index.version), "adapter": live.model.adapter or "none"}
    info = Gauge("ragtide_live_release_info", "What is live.", list(labels), registry=metrics)
    info.labels(**labels).set(1)
    since = datetime.fromisoformat(live_since(live, found.history)).timestamp()
    _gauge(metrics, "live_since_timestamp_seconds", "When the live release became live.", since)
    _gauge(metrics, "index_chunks", "Chunks in the live index.", live.index.rows)
    if (score := live.scorecard.answer_score.value) is not None:
        _gauge(metrics, "release_answer_score", "The live release's answer score when it was proven, 0 to 1.", score)


def _turns(metrics: CollectorRegistry, found: ProjectStatus) -> None:
    turns = Counter("ragtide_cycles", "Turns of the loop.", ["decision", "outcome"], registry=metrics)
    for (decision, outcome), number in Count((one.decision, one.outcome) for one in found.history).items():
        turns.labels(decision=decision, outcome=outcome).inc(number)
    embedded = Counter("ragtide_embedded_chunks", "Chunks embedded by all turns.", registry=metrics)
    embedded.inc(sum(one.work.get(EMBEDDED_CHUNKS, 0.0) for one in found.history))
    if not found.history:
        return
    last = found.history[-1]
    info = Gauge("ragtide_last_turn_info", "The last turn.", ["turn", "decision", "outcome"], registry=metrics)
    info.labels(turn=last.name, decision=last.decision, outcome=last.outcome).set(1)
    started = datetime.fromisoformat(last.at).timestamp()
    _gauge(metrics, "last_cycle_timestamp_seconds", "When the last turn began.", started)
    _gauge(metrics, "last_cycle_duration_seconds", "How long the last turn took, or takes.", last.seconds)
    for signal in (LIVE_SCORE, INDEX_GAP, MODEL_GAP, "documents_quarantined"):
        measured = [one.signals[signal] for one in found.history if signal in one.signals]
        if measured:
            _gauge(metrics, signal, "As the last turn that measured it has found it.", measured[-1])


def _gauge(metrics: CollectorRegistry, name: str, about: str, value: float) -> None:
    Gauge(f"ragtide_{name}", about, registry=metrics).set(value)
