"""Prometheus metrics of a project in the text format, served by the webhook and written to a file."""

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
LAST_CYCLE_LABELS = ["cycle", "decision", "outcome"]
SIGNALS = {
    LIVE_SCORE: "Answer score of the live release, 0 to 1",
    INDEX_GAP: "Score that the index loses, 0 to 1: gold context minus retrieved context",
    MODEL_GAP: "Score that the model loses, 0 to 1: target minus gold context",
    "documents_quarantined": "Number of quarantined documents",
}
# The creation time of a counter is meaningless here: each response creates its own, with all cycles counted.
disable_created_metrics()  # type: ignore[no-untyped-call]


def metrics_text(project: Path) -> str:
    """The current metrics. Raises UserError where the project cannot be read."""
    return _text(Project.open(project, no_progress))


def write_metrics(project: Project) -> None:
    """Write the current metrics to .ragtide/metrics.prom, for node_exporter. Never raises: failures are logged."""
    try:
        write_text_atomically(project.workspace.state / FILE, _text(project))
    except Exception as problem:  # noqa: BLE001 - a run must not fail for its metrics
        run_logger().warning("%s was not written: %s", FILE, summarize_error(problem))


def record_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001 - Prefect's form
    """Hook of the flow: write the metrics of a run that failed or crashed."""
    # Where the project cannot be opened, the run has failed for that reason and reported it.
    with suppress(UserError):
        write_metrics(Project.open(project_folder(flow_run), no_progress))


def _text(project: Project) -> str:
    now = datetime.now(UTC)
    status, metrics = project_status(project, now), CollectorRegistry()
    _freshness(metrics, status, project)
    if status.live is not None:
        _live(metrics, status.live, status)
    _cycles(metrics, status)
    return generate_latest(metrics).decode()


def _freshness(metrics: CollectorRegistry, status: ProjectStatus, project: Project) -> None:
    fresh = status.freshness
    lag = "Seconds since the oldest data change not yet released or decided."
    _gauge(metrics, "freshness_lag_seconds", lag, fresh.lag_seconds)
    if (age := fresh.source_age_seconds) is not None:
        _gauge(metrics, "source_age_seconds", "Seconds since a file in the data folders was last written.", age)
    alarms = fresh.alarms(project.workspace.params.freshness)
    _gauge(
        metrics,
        "freshness_alarm",
        "1 where a limit of the freshness block in params.yaml is exceeded, else 0.",
        float(bool(alarms)),
    )
    _gauge(metrics, "pending_approvals", "Plans waiting for an approval.", float(status.pending is not None))


def _live(metrics: CollectorRegistry, live: Release, status: ProjectStatus) -> None:
    labels = {"release": live.id, "decision": str(live.decision), "data_rev": live.snapshot.id}
    labels |= {"index_version": str(live.index.version), "adapter": live.model.adapter or "none"}
    info = Gauge("ragtide_live_release_info", "Labels of the live release.", list(labels), registry=metrics)
    info.labels(**labels).set(1)
    since = datetime.fromisoformat(live_since(live, status.history)).timestamp()
    _gauge(metrics, "live_since_timestamp_seconds", "Unix time at which the live release became live.", since)
    _gauge(metrics, "index_chunks", "Number of chunks in the live index.", live.index.rows)
    if (score := live.scorecard.answer_score.value) is not None:
        _gauge(
            metrics,
            "release_answer_score",
            "Answer score of the live release at its evaluation by the gate, 0 to 1.",
            score,
        )


def _cycles(metrics: CollectorRegistry, status: ProjectStatus) -> None:
    history = status.history
    cycles = Counter("ragtide_cycles", "Number of cycles.", ["decision", "outcome"], registry=metrics)
    counts = Count((cycle.decision, cycle.outcome) for cycle in history)
    for (decision, outcome), number in counts.items():
        cycles.labels(decision=decision, outcome=outcome).inc(number)
    embedded = Counter("ragtide_embedded_chunks", "Number of chunks embedded by all cycles.", registry=metrics)
    embedded.inc(sum(cycle.work.get(EMBEDDED_CHUNKS, 0.0) for cycle in history))
    if not history:
        return
    last = history[-1]
    info = Gauge("ragtide_last_cycle_info", "Labels of the last cycle.", LAST_CYCLE_LABELS, registry=metrics)
    info.labels(cycle=last.name, decision=last.decision, outcome=last.outcome).set(1)
    started = datetime.fromisoformat(last.at).timestamp()
    _gauge(metrics, "last_cycle_timestamp_seconds", "Unix time at which the last cycle began.", started)
    _gauge(metrics, "last_cycle_duration_seconds", "Duration of the last cycle, up to now while it runs.", last.seconds)
    for signal, description in SIGNALS.items():
        measured = [cycle.signals[signal] for cycle in history if signal in cycle.signals]
        if measured:
            _gauge(metrics, signal, f"{description}, as last measured by a cycle.", measured[-1])


def _gauge(metrics: CollectorRegistry, name: str, description: str, value: float) -> None:
    Gauge(f"ragtide_{name}", description, registry=metrics).set(value)
