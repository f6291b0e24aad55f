"""Cycle registry: one MLflow run per cycle, nested runs for its steps, and the history read back from them."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cached_property

from mlflow.entities import Run, RunStatus
from mlflow.exceptions import MlflowException

from ragtide.pipelines.errors import UnavailableError
from ragtide.pipelines.records.action import ACTIONS
from ragtide.pipelines.records.release import Cycle, Outcome, Release
from ragtide.pipelines.registry.experiment import MlflowExperiment
from ragtide.pipelines.registry.layout import CHARTS_RUN, cycle_chart_metrics
from ragtide.pipelines.registry.runs import RunLog
from ragtide.pipelines.safe_text import mask_error

KIND = "ragtide.kind"
PARENT = "mlflow.parentRunId"
WORK = "work."
# The tag of a rollback that names the release it takes back.
UNDONE = "undone_release"
# How much of an error's message the tag `outcome_detail` holds, in characters.
OUTCOME_CHARACTERS = 200
# The exit code of a process that a signal ended is this plus the signal's number.
SIGNAL_CODE = 128


# The runs that this process has open, by id: the thread that ends an interrupted process closes them.
_open_runs: dict[str, RunLog] = {}


def interrupt_open_runs(why: str) -> None:
    """Record the open runs of this process as interrupted; `why` names the signal. Never raises."""
    for log in reversed(list(_open_runs.values())):
        with suppress(Exception):
            log.close(Outcome.INTERRUPTED, why)


class CycleRegistry(MlflowExperiment):
    """The runs of one project: cycles, their steps, evaluations, and the charts over all cycles."""

    @contextmanager
    def cycle(self) -> Iterator[RunLog]:
        """Open a numbered run for one cycle; its status becomes FAILED where the block raises."""
        self._write_layout()
        number = len(self._runs("cycle")) + 1
        with self._cycle_run(f"cycle-{number:04d}", number, {}) as log:
            yield log

    @contextmanager
    def manual_cycle(self, name: str, tags: Mapping[str, str]) -> Iterator[RunLog]:
        """Open a run for an operator's action, such as a rollback, which is a cycle of its own in the history."""
        with self._cycle_run(name, len(self._runs("cycle")) + 1, tags) as log:
            yield log

    @contextmanager
    def step(self, name: str, cycle: RunLog) -> Iterator[RunLog]:
        """Open a nested run for one step of a cycle."""
        with self._run(name, {KIND: "step", PARENT: cycle.id}) as log:
            yield log

    @contextmanager
    def evaluation(self, release: Release) -> Iterator[RunLog]:
        """Open a run for a release's scores on the current questions; it is not a cycle."""
        tags = {KIND: "evaluation", "release": release.id, "index_version": str(release.index.version)}
        with self._run(f"evaluation of release {release.id}", tags) as log:
            yield log

    def read(self, log: RunLog) -> Cycle:
        """Return a cycle as it is recorded so far."""
        return _cycle(self._client.get_run(log.id))

    def history(self) -> list[Cycle]:
        """Return every cycle, oldest first."""
        if not self.exists:
            return []
        try:
            return [_cycle(run) for run in reversed(self._runs("cycle"))]
        except MlflowException as problem:
            raise self._unavailable(problem) from problem

    def running_cycles(self) -> list[Cycle]:
        """Return the cycles recorded as running; for the holder of the writer lease they are killed ones."""
        return [cycle for cycle in self.history() if cycle.outcome is Outcome.RUNNING]

    def close_killed(self, cycle: Cycle, tags: Mapping[str, str] | None = None) -> None:
        """Record a cycle whose process has ended, with its running steps, as killed; `tags` may say otherwise."""
        for key, value in {"outcome": Outcome.KILLED.value, **(tags or {})}.items():
            self._client.set_tag(cycle.run, key, value)
        steps = self._client.search_runs([self.experiment], f"tags.`{PARENT}` = '{cycle.run}'")
        running = RunStatus.to_string(RunStatus.RUNNING)
        for run in [cycle.run, *(step.info.run_id for step in steps if step.info.status == running)]:
            self._client.set_terminated(run, RunStatus.to_string(RunStatus.KILLED))

    def delete_traces(self, before: datetime, dry_run: bool = False) -> int:
        """Delete the traces from `before` that time, or with `dry_run` only count them; returns how many."""
        if not self.exists:
            return 0
        milliseconds = int(before.timestamp() * 1000)
        if not dry_run:
            return int(self._client.delete_traces(self.experiment, max_timestamp_millis=milliseconds))
        count, token = 0, None
        while True:
            page = self._client.search_traces(
                locations=[self.experiment],
                filter_string=f"trace.timestamp_ms <= {milliseconds}",
                include_spans=False,
                page_token=token,
            )
            count, token = count + len(page), page.token
            if not token:
                return count

    @contextmanager
    def _run(self, name: str, tags: dict[str, str]) -> Iterator[RunLog]:
        run = self._client.create_run(self.experiment, run_name=name, tags=tags)
        log = _open_runs[run.info.run_id] = RunLog(self._client, run)
        try:
            yield log
        except BaseException as problem:
            # Prefect stores the error's message as the run's state.
            mask_error(problem)
            # Where MLflow itself is unavailable, the next cycle closes the run.
            with suppress(UnavailableError):
                is_failure = isinstance(problem, Exception)
                log.close(Outcome.FAILED if is_failure else Outcome.INTERRUPTED, _describe(problem))
            raise
        finally:
            _open_runs.pop(log.id, None)
        self._client.set_terminated(log.id, RunStatus.to_string(RunStatus.FINISHED))

    @contextmanager
    def _cycle_run(self, name: str, number: int, tags: Mapping[str, str]) -> Iterator[RunLog]:
        """Open a run that the history lists; its metrics are added to the charts when it ends."""
        with self._run(name, {KIND: "cycle", "cycle": name, **tags}) as log:
            try:
                yield log
            finally:
                # A point that is missing in a chart must not fail the cycle.
                with suppress(MlflowException, UnavailableError):
                    self._chart(log, number)

    def _chart(self, log: RunLog, number: int) -> None:
        """Add a cycle to the run whose charts show all cycles; repeating it changes nothing."""
        run = self._client.get_run(log.id)
        self._charts_run.metrics(cycle_chart_metrics(_cycle(run)), step=number, at=run.info.start_time)

    @cached_property
    def _charts_run(self) -> RunLog:
        """The one run whose charts have the cycles on their x-axis; it is not a cycle itself."""
        existing = self._runs("timeline")
        if existing:
            return RunLog(self._client, existing[0])
        with self._run(CHARTS_RUN, {KIND: "timeline"}) as log:
            log.describe("Score, gaps and cost of each cycle. The x-axis (step) is the cycle's number.")
            return log

    def _runs(self, kind: str) -> list[Run]:
        """Return every run of a kind (tag `ragtide.kind`), newest first."""
        runs: list[Run] = []
        token = None
        while True:
            page = self._client.search_runs(
                [self.experiment],
                f"tags.`{KIND}` = '{kind}'",
                order_by=["attributes.start_time DESC"],
                page_token=token,
            )
            runs += page
            token = page.token
            if not token:
                return runs


def _describe(problem: BaseException) -> str:
    """What ended a run, in one line: an error, or the signal behind SystemExit, KeyboardInterrupt and the like."""
    if isinstance(problem, Exception):
        return " ".join(str(problem).split())[:OUTCOME_CHARACTERS] or type(problem).__name__
    is_ctrl_c = isinstance(problem, KeyboardInterrupt) or str(problem) == str(SIGNAL_CODE + signal.SIGINT)
    return "Ctrl-C" if is_ctrl_c else "SIGTERM"


def _cycle(run: Run) -> Cycle:
    tags, metrics = run.data.tags, run.data.metrics
    started = datetime.fromtimestamp(run.info.start_time / 1000, tz=UTC)
    now = datetime.now(UTC).timestamp() * 1000
    ended = run.info.end_time or now
    return Cycle(
        name=tags.get("cycle", run.info.run_name),
        run=run.info.run_id,
        at=started.isoformat(timespec="seconds"),
        action=ACTIONS.get(tags.get("decision", "")),
        outcome=Outcome(tags.get("outcome", Outcome.RUNNING)),
        detail=tags.get("outcome_detail", ""),
        reason=tags.get("reason", ""),
        snapshot=tags.get("data_rev", ""),
        params=tags.get("params", ""),
        plan=tags.get("plan", ""),
        inputs=tags.get("inputs", ""),
        measured_in=tags.get("measured_in", ""),
        release=tags.get("release"),
        undone=tags.get(UNDONE),
        score_before=metrics.get("score_before"),
        score_after=metrics.get("score_after"),
        # The clock may have been set back during the run.
        seconds=max(0.0, round((ended - run.info.start_time) / 1000, 1)),
        work={key.removeprefix(WORK): value for key, value in metrics.items() if key.startswith(WORK)},
        signals={key: value for key, value in metrics.items() if not key.startswith(WORK)},
        parts=json.loads(tags.get("parts", "[]")),
    )
