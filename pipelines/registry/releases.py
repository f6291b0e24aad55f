"""What was tried and what is live? The only door to MLflow: runs, datasets, the model registry and its one pointer.

A release is a version of the registered model; the alias `champion` is the one pointer that says which is live. Each
turn of the loop is a run, its steps are nested runs.
"""

from __future__ import annotations

import logging
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from mlflow.entities import Run, RunStatus
from mlflow.exceptions import MlflowException

from ragtide.pipelines.errors import UnavailableError, UserError, summarize_error
from ragtide.pipelines.records.action import ACTIONS
from ragtide.pipelines.records.base import PARTIAL_PREFIX
from ragtide.pipelines.records.release import BuiltEmbedder, Cycle, Outcome, Release
from ragtide.pipelines.registry.client import ALREADY_THERE, NOT_THERE, MlflowStore, RegistryClient, store_unavailable
from ragtide.pipelines.registry.layout import (
    cycle_chart_metrics,
    experiment_tags,
    model_description,
    release_description,
)
from ragtide.pipelines.registry.runs import RunLog
from ragtide.pipelines.workspace import Workspace

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# It logs what it raises, with the traceback: who asked says it in one line.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
CHAMPION = "champion"
KIND = "ragtide.kind"
PARENT = "mlflow.parentRunId"
WORK = "work."
# A tag that every release's version has, and no draft: the last thing that is written before the pointer moves.
DESCRIBED = "data_rev"
# A tag that says why a release cannot be gone back to any more.
LOST = "lost"


@dataclass(frozen=True)
class ReleaseDraft:
    """A release's number, and the folder among its run's artifacts that is kept for it."""

    id: str
    folder: str


class Registry:
    """The MLflow experiment and registered model of one project."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._params = workspace.params.registry

    @cached_property
    def _client(self) -> RegistryClient:
        self._workspace.state.mkdir(parents=True, exist_ok=True)
        return cast("RegistryClient", MlflowStore(self._workspace.tracking_uri))

    @property
    def exists(self) -> bool:
        """Whether anything was ever recorded; looking must not create a database."""
        return bool(self._params.tracking_uri) or (self._workspace.state / "mlflow.db").exists()

    @cached_property
    def experiment(self) -> str:
        """The experiment's id; it is made where it is not there yet."""
        known = self._client.get_experiment_by_name(self._params.experiment)
        return str(known.experiment_id) if known else self._new_experiment()

    def _new_experiment(self) -> str:
        through_server = self._workspace.tracking_uri.startswith("http")
        artifacts = None if through_server else self._workspace.artifact_store
        try:
            return str(self._client.create_experiment(self._params.experiment, artifact_location=artifacts))
        except MlflowException as problem:
            # Another process may have made it since one looked.
            made = self._client.get_experiment_by_name(self._params.experiment)
            if made is None:
                raise problem
            return str(made.experiment_id)

    def _lay_out(self) -> None:
        """Have the experiment's page say what a reviewer finds there; what a person has written there since stays."""
        known = self._client.get_experiment(self.experiment).tags
        for key, value in experiment_tags(self.experiment, self._params.model).items():
            if key not in known:
                self._client.set_experiment_tag(self.experiment, key, value)

    # --- runs ------------------------------------------------------------------------------------------------------

    @contextmanager
    def cycle(self) -> Iterator[RunLog]:
        """A run for one turn of the loop, numbered; it says FAILED where the turn raised."""
        self._lay_out()
        number = len(self._runs("cycle")) + 1
        with self._turn(f"cycle-{number:04d}", number, {}) as log:
            yield log

    @contextmanager
    def step(self, name: str, cycle: RunLog) -> Iterator[RunLog]:
        """A nested run for one step of a cycle."""
        with self._run(name, {KIND: "step", PARENT: cycle.id}) as log:
            yield log

    @contextmanager
    def evaluation(self, release: Release) -> Iterator[RunLog]:
        """A run for a release's scores on the questions of now; no turn of the loop."""
        tags = {KIND: "evaluation", "release": release.id, "index_version": str(release.index.version)}
        with self._run(f"evaluation of release {release.id}", tags) as log:
            yield log

    @contextmanager
    def _run(self, name: str, tags: dict[str, str]) -> Iterator[RunLog]:
        run = self._client.create_run(self.experiment, run_name=name, tags=tags)
        log = RunLog(self._client, run)
        try:
            yield log
        except BaseException as problem:
            # Where MLflow is what is away, the next turn closes the run.
            with suppress(UnavailableError):
                detail = " ".join(str(problem).split())[:200] or type(problem).__name__
                log.tags({"outcome": Outcome.FAILED.value, "outcome_detail": detail})
                self._client.set_terminated(log.id, RunStatus.to_string(RunStatus.FAILED))
            raise
        self._client.set_terminated(log.id, RunStatus.to_string(RunStatus.FINISHED))

    @contextmanager
    def manual_cycle(self, name: str, tags: Mapping[str, str]) -> Iterator[RunLog]:
        """A run for something that an operator does, such as a rollback: a turn of its own in the history."""
        with self._turn(name, len(self._runs("cycle")) + 1, tags) as log:
            yield log

    @contextmanager
    def _turn(self, name: str, number: int, tags: Mapping[str, str]) -> Iterator[RunLog]:
        """A run that the history holds; its numbers go into the charts over the cycles when it ends."""
        with self._run(name, {KIND: "cycle", "cycle": name, **tags}) as log:
            try:
                yield log
            finally:
                # A chart that lacks a point is no reason for a turn to fail.
                with suppress(MlflowException, UnavailableError):
                    self._chart(log, number)

    def _chart(self, log: RunLog, number: int) -> None:
        """Add a turn to the run that holds the numbers over all turns; again, it changes nothing."""
        run = self._client.get_run(log.id)
        self._timeline.metrics(cycle_chart_metrics(_cycle(run)), step=number, at=run.info.start_time)

    @cached_property
    def _timeline(self) -> RunLog:
        """The one run whose charts have the turns on their x-axis; no turn of the loop itself."""
        known = self._runs("timeline")
        if known:
            return RunLog(self._client, known[0])
        with self._run("over the cycles", {KIND: "timeline"}) as log:
            log.describe("Score, gaps and cost: a point for each turn of the loop, by its number.")
            return log

    def read(self, log: RunLog) -> Cycle:
        """A turn as it is recorded so far."""
        return _cycle(self._client.get_run(log.id))

    def running_cycles(self) -> list[Cycle]:
        """Turns that are recorded as running; with the project held for writing, they were killed."""
        return [cycle for cycle in self.history() if cycle.outcome is Outcome.RUNNING]

    def close_killed(self, cycle: Cycle) -> None:
        """Write down that a turn did not come to its end."""
        self._client.set_tag(cycle.run, "outcome", Outcome.KILLED.value)
        steps = self._client.search_runs([self.experiment], f"tags.`{PARENT}` = '{cycle.run}'")
        running = RunStatus.to_string(RunStatus.RUNNING)
        for run in [cycle.run, *(step.info.run_id for step in steps if step.info.status == running)]:
            self._client.set_terminated(run, RunStatus.to_string(RunStatus.KILLED))

    def history(self) -> list[Cycle]:
        """Every turn of the loop, oldest first."""
        if not self.exists:
            return []
        try:
            return [_cycle(run) for run in reversed(self._runs("cycle"))]
        except MlflowException as problem:
            raise self._away(problem) from problem

    def _runs(self, kind: str) -> list[Run]:
        found: list[Run] = []
        token = None
        while True:
            page = self._client.search_runs(
                [self.experiment],
                f"tags.`{KIND}` = '{kind}'",
                order_by=["attributes.start_time DESC"],
                page_token=token,
            )
            found += page
            token = page.token
            if not token:
                return found

    def address(self, log: RunLog) -> str:
        """Where a run stands in MLflow's page, which `ragtide up` and `ragtide ui` open where none is named."""
        uri = self._workspace.tracking_uri
        server = uri if uri.startswith("http") else self._workspace.params.services.mlflow_url
        return f"{server.rstrip('/')}/#/experiments/{self.experiment}/runs/{log.id}"

    # --- releases --------------------------------------------------------------------------------------------------

    def champion(self) -> Release | None:
        """The release that is live; None before the first. One look-up: never half of one and half of another.

        Only "there is none" means None: a store that is away must not look like a project before its first release.
        """
        if not self.exists:
            return None
        try:
            version = self._client.get_model_version_by_alias(self._params.model, CHAMPION)
        except MlflowException as problem:
            if problem.error_code in NOT_THERE:
                return None
            raise self._away(problem) from problem
        try:
            return self._load(version)
        except (MlflowException, OSError) as problem:
            half = f"release {version.version}, which is live, was never written down to its end"
            raise UserError(f"{half}: `ragtide verify --repair` points back to one that was") from problem

    def live(self) -> Release:
        """The release that is live. Raises RefusalError before the first."""
        release = self.champion()
        if release is None:
            raise UserError("nothing is live yet: `ragtide run` makes the first release")
        return release

    def release(self, release_id: str) -> Release:
        """The release of that number. Raises RefusalError where there is none, or where it was never finished."""
        try:
            return self._load(self._client.get_model_version(self._params.model, release_id))
        except (MlflowException, OSError) as problem:
            raise UserError(f"there is no release {release_id}: `ragtide history` lists them") from problem

    def releases(self) -> list[Release]:
        """Every release that was written down to its end and is not lost, oldest first."""
        if not self.exists:
            return []
        try:
            versions = self._client.search_model_versions(f'name = "{self._params.model}"')
        except MlflowException as problem:
            raise self._away(problem) from problem
        described = [version for version in versions if DESCRIBED in version.tags and LOST not in version.tags]
        try:
            return [self._load(version) for version in sorted(described, key=lambda version: int(version.version))]
        except (MlflowException, OSError) as problem:
            what = f"MLflow at {self._workspace.tracking_uri} has lost what it kept of a release"
            raise UserError(f"{what}: {summarize_error(problem)}; bring its artifacts back from a backup") from problem

    def live_release_id(self) -> str | None:
        """The number that the pointer names, whether or not there is a whole release behind it."""
        if not self.exists:
            return None
        try:
            return str(self._client.get_model_version_by_alias(self._params.model, CHAMPION).version)
        except MlflowException as problem:
            if problem.error_code in NOT_THERE:
                return None
            raise self._away(problem) from problem

    def draft(self, log: RunLog) -> ReleaseDraft:
        """A new release's number: a version of the registered model that holds nothing yet, and that nobody points at.

        MLflow gives each number once, and its artifacts a folder of its own in the run, so that what is made under it
        can never meet the remains of a killed or a failed attempt.
        """
        try:
            self._client.create_registered_model(self._params.model, description=model_description(self.experiment))
        except MlflowException as problem:
            if problem.error_code != ALREADY_THERE:
                raise
        folder = f"release-{secrets.token_hex(4)}"
        source = f"{log.artifact_uri}/{folder}"
        version = self._client.create_model_version(self._params.model, source, run_id=log.id)
        return ReleaseDraft(id=str(version.version), folder=folder)

    def describe(self, release: Release, draft: ReleaseDraft, log: RunLog) -> None:
        """Write down what a release is: its record among the run's artifacts, and the tags of its version.

        With the record lies what `mlflow models serve` runs.
        """
        log.model(draft.folder)
        log.record(f"{draft.folder}/release.json", release)
        text = release_description(release, self.experiment, log.id)
        self._client.update_model_version(self._params.model, release.id, text)
        self.tag_release(release.id, _release_tags(release))

    def find_written(self, log: RunLog) -> Release | None:
        """The release that a turn has written down to its end already; None where it has not come so far."""
        versions = self._client.search_model_versions(f"name = '{self._params.model}' and run_id = '{log.id}'")
        whole = [version for version in versions if DESCRIBED in version.tags]
        return self._load(whole[0]) if whole else None

    @contextmanager
    def pointer_lock(self) -> Iterator[None]:
        """Be the only one who moves the pointer, for moments."""
        with self._workspace.pointer_lock():
            yield

    def set_live(self, release: Release) -> None:
        """Make a release live: the one pointer moves, index and model go with it."""
        self._client.set_registered_model_alias(self._params.model, CHAMPION, release.id)

    def tag_release(self, release_id: str, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            self._client.set_model_version_tag(self._params.model, release_id, key, value)

    def fetch_adapter(self, release: Release, target: Path) -> None:
        """Bring a release's adapter from the artifact store to `target`, where this machine does not have it.

        Raises RefusalError where the store does not have it either.
        """
        if release.model.adapter is None or target.is_dir():
            return
        version = self._client.get_model_version(self._params.model, release.id)
        lost = f"the adapter {release.model.adapter} of release {release.id} is neither here nor in MLflow"
        how = "`ragtide rollback --to` a release that is whole, or retrain"
        self._fetch(str(version.run_id), f"{_folder(version)}/adapter", target, f"{lost}: {how}")

    def fetch_retriever(self, tuned: BuiltEmbedder, target: Path) -> None:
        """Bring a tuned retriever from the run that made it to `target`, where this machine does not have it.

        Raises RefusalError where the store does not have it either.
        """
        if target.is_dir():
            return
        lost = f"the tuned retriever {tuned.digest} is neither here nor in MLflow"
        how = "`ragtide rollback --to` a release that was made without it"
        self._fetch(tuned.run, "retriever", target, f"{lost}: {how}")

    def _fetch(self, run: str, path: str, target: Path, lost: str) -> None:
        """Bring a folder from a run's artifacts to `target`, which gets its name last."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=PARTIAL_PREFIX, dir=target.parent) as folder:
            try:
                got = self._client.download_artifacts(run, path, folder)
            except (MlflowException, OSError) as problem:
                raise UserError(lost) from problem
            Path(got).replace(target)

    def _away(self, problem: MlflowException) -> UnavailableError:
        return store_unavailable(self._workspace.tracking_uri, problem)

    def _load(self, version: Any) -> Release:
        path = f"{_folder(version)}/release.json"
        with tempfile.TemporaryDirectory() as folder:
            return Release.read(Path(self._client.download_artifacts(version.run_id, path, folder)))


def _folder(version: Any) -> str:
    """Where a version's artifacts are, below those of its run."""
    return str(version.source).rsplit("/", 1)[-1]


def _release_tags(release: Release) -> dict[str, str]:
    return {
        "data_rev": release.snapshot.id,
        "index_version": str(release.index.version),
        "index_tag": release.index_tag,
        "adapter": release.model.adapter or "none",
        "retriever": release.index.tuned_embedder.digest if release.index.tuned_embedder else "none",
        "decision": str(release.decision),
        "answer_score": str(release.scorecard.answer_score.value),
        "previous": release.previous or "none",
    }


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
        release=tags.get("release"),
        undone=tags.get("undone_release"),
        score_before=metrics.get("score_before"),
        score_after=metrics.get("score_after"),
        seconds=round((ended - run.info.start_time) / 1000, 1),
        work={key.removeprefix(WORK): value for key, value in metrics.items() if key.startswith(WORK)},
        signals={key: value for key, value in metrics.items() if not key.startswith(WORK)},
    )
