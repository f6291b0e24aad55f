"""Release registry: model versions, the alias `champion` that marks the live one, and their artifacts.

A release is a version of the registered model. The alias `champion` is the one pointer that says which is live.
"""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException

from ragtide.pipelines.errors import UserError, summarize_error
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.base import PARTIAL_PREFIX, make_folder
from ragtide.pipelines.records.release import BuiltEmbedder, Cycle, Outcome, PartOutcome, Release
from ragtide.pipelines.registry.client import ALREADY_EXISTS, NOT_FOUND
from ragtide.pipelines.registry.cycles import UNDONE, CycleRegistry
from ragtide.pipelines.registry.experiment import MlflowExperiment
from ragtide.pipelines.registry.layout import model_description, release_description
from ragtide.pipelines.registry.runs import RunLog

CHAMPION = "champion"
# The folder of a fine-tuned embedder among the artifacts of the run that trained it.
EMBEDDER_FOLDER = "tuned_embedder"
# A tag that every complete release has and no draft: it is written last, before the pointer moves.
COMPLETE = "data_rev"
# A tag that says why a release can no longer be rolled back to.
DAMAGED = "damaged"


@dataclass(frozen=True)
class ReleaseDraft:
    """The number of a new release, and the folder among its run's artifacts that is reserved for it."""

    id: str
    folder: str


class ReleaseRegistry(MlflowExperiment):
    """The versions of the project's registered model: reading them, recording a new one, and the live pointer."""

    def champion(self) -> Release | None:
        """Return the live release, or None before the first.

        One request, so that it is never a mix of two releases. Only a missing alias means None: a store that does not
        answer must not look like a project before its first release.
        """
        version = self._live_version()
        if version is None:
            return None
        try:
            return self._load(version)
        except (MlflowException, OSError) as problem:
            raise UserError(
                f"release {version.version}, which is live, was never recorded completely: "
                "`ragtide verify --repair` moves the pointer back to a complete one"
            ) from problem

    def live(self) -> Release:
        """Return the live release. Raises UserError before the first."""
        release = self.champion()
        if release is None:
            raise UserError("nothing is live yet: `ragtide run` makes the first release")
        return release

    def live_release_id(self) -> str | None:
        """Return the number that the pointer names, whether or not that release is complete."""
        version = self._live_version()
        return None if version is None else str(version.version)

    def release(self, release_id: str) -> Release:
        """Return the release of that number. Raises UserError where it does not exist or was never completed."""
        try:
            return self._load(self._client.get_model_version(self._params.model, release_id))
        except (MlflowException, OSError) as problem:
            raise UserError(f"there is no release {release_id}: `ragtide history` lists them") from problem

    def releases(self) -> list[Release]:
        """Return every complete release that is not marked as damaged, oldest first."""
        if not self.exists:
            return []
        try:
            versions = self._client.search_model_versions(f'name = "{self._params.model}"')
        except MlflowException as problem:
            raise self._unavailable(problem) from problem
        complete = [version for version in versions if COMPLETE in version.tags and DAMAGED not in version.tags]
        try:
            return [self._load(version) for version in sorted(complete, key=lambda version: int(version.version))]
        except (MlflowException, OSError) as problem:
            raise UserError(
                f"MLflow at {self._workspace.tracking_uri} has lost the artifacts of a release "
                f"({summarize_error(problem)}); restore them from a backup"
            ) from problem

    def draft(self, log: RunLog) -> ReleaseDraft:
        """Reserve the number of a new release: a version of the registered model that is still empty and not live.

        MLflow gives each number once, and the version's artifacts get a folder of their own in the run, so that they
        never meet the remains of a killed or failed attempt.
        """
        try:
            self._client.create_registered_model(self._params.model, description=model_description(self.experiment))
        except MlflowException as problem:
            if problem.error_code != ALREADY_EXISTS:
                raise
        folder = f"release-{secrets.token_hex(4)}"
        source = f"{log.artifact_uri}/{folder}"
        version = self._client.create_model_version(self._params.model, source, run_id=log.id)
        return ReleaseDraft(id=str(version.version), folder=folder)

    def record_release(self, release: Release, draft: ReleaseDraft, log: RunLog) -> None:
        """Complete a draft: its record and the model that `mlflow models serve` loads, then the version's tags."""
        log.model(draft.folder)
        log.record(f"{draft.folder}/release.json", release)
        text = release_description(release, self.experiment, log.id)
        self._client.update_model_version(self._params.model, release.id, text)
        self.tag_release(release.id, _release_tags(release))

    def find_recorded(self, run: str, decision: Action | None = None) -> Release | None:
        """Return the last release that the cycle with this run has recorded completely, for that decision, or None."""
        versions = self._client.search_model_versions(f"name = '{self._params.model}' and run_id = '{run}'")
        complete = [version for version in versions if COMPLETE in version.tags]
        newest_first = sorted(complete, key=lambda version: int(version.version), reverse=True)
        releases = (self._load(version) for version in newest_first)
        return next((release for release in releases if decision in (None, release.decision)), None)

    @contextmanager
    def pointer_lock(self) -> Iterator[None]:
        """Hold the lock under which the pointer is moved; it is held for moments."""
        with self._workspace.pointer_lock():
            yield

    def set_live(self, release: Release) -> None:
        """Make a release live: the one pointer moves, and index and model with it."""
        self._client.set_registered_model_alias(self._params.model, CHAMPION, release.id)

    def tag_release(self, release_id: str, tags: Mapping[str, str]) -> None:
        """Write tags on a release's model version."""
        for key, value in tags.items():
            self._client.set_model_version_tag(self._params.model, release_id, key, value)

    def fetch_adapter(self, release: Release, target: Path) -> None:
        """Download a release's adapter to `target`, unless this machine has it or the release has none.

        Raises UserError where the artifact store does not have it either.
        """
        if release.model.adapter is None or target.is_dir():
            return
        version = self._client.get_model_version(self._params.model, release.id)
        missing = (
            f"the adapter {release.model.adapter} of release {release.id} is neither on this machine nor in MLflow"
        )
        remedy = "`ragtide rollback --to` a complete release, or retrain"
        self._download(str(version.run_id), f"{_artifact_folder(version)}/adapter", target, f"{missing}: {remedy}")

    def fetch_embedder(self, tuned: BuiltEmbedder, target: Path) -> None:
        """Download a fine-tuned embedder from the run that trained it to `target`, unless this machine has it.

        Raises UserError where the artifact store does not have it either.
        """
        if target.is_dir():
            return
        missing = f"the fine-tuned embedder {tuned.digest} is neither on this machine nor in MLflow"
        remedy = "`ragtide rollback --to` a release that was built without it"
        self._download(tuned.run, EMBEDDER_FOLDER, target, f"{missing}: {remedy}")

    def _live_version(self) -> Any:
        """Return the model version that the alias names, or None where no alias is set."""
        if not self.exists:
            return None
        try:
            return self._client.get_model_version_by_alias(self._params.model, CHAMPION)
        except MlflowException as problem:
            if problem.error_code in NOT_FOUND:
                return None
            raise self._unavailable(problem) from problem

    def _download(self, run: str, path: str, target: Path, failure: str) -> None:
        """Download a folder of a run's artifacts; it is renamed to `target` once it is complete."""
        make_folder(target.parent)
        with tempfile.TemporaryDirectory(prefix=PARTIAL_PREFIX, dir=target.parent) as folder:
            try:
                downloaded = self._client.download_artifacts(run, path, folder)
            except (MlflowException, OSError) as problem:
                raise UserError(failure) from problem
            Path(downloaded).replace(target)

    def _load(self, version: Any) -> Release:
        path = f"{_artifact_folder(version)}/release.json"
        with tempfile.TemporaryDirectory() as folder:
            return Release.read(Path(self._client.download_artifacts(version.run_id, path, folder)))


class Registry(CycleRegistry, ReleaseRegistry):
    """Everything that MLflow records for one project: its cycles and its releases."""

    def close_killed(self, cycle: Cycle, tags: Mapping[str, str] | None = None) -> None:
        """Record a cycle whose process has ended as killed, or as what it had achieved once the pointer had moved.

        Otherwise a later rollback could not name what it took back, and the same data would bring it live again.
        """
        tags = tags or {}
        if cycle.undone:
            tags = {**tags, **self._achieved_rollback(cycle, cycle.undone)}
        elif release := self._last_live_of(cycle.run):
            achieved = {"release": release.id, "index_version": str(release.index.version), "accepted": "True"}
            achieved["parts"] = _with_part(cycle.parts, release)
            tags = {**tags, "outcome": Outcome.RELEASED.value, **achieved}
        super().close_killed(cycle, tags)

    def _achieved_rollback(self, cycle: Cycle, undone: str) -> dict[str, str]:
        """The tags of a killed rollback; one that had not moved the pointer took nothing back."""
        live = self.live_release_id()
        if live in (None, undone):
            self._client.delete_tag(cycle.run, UNDONE)
            return {}
        self.tag_release(undone, {"rolled_back": cycle.reason})
        return {"outcome": Outcome.ROLLED_BACK.value, "release": str(live)}

    def _last_live_of(self, run: str) -> Release | None:
        """The last release of the cycle with this run that went live: of two, the second may have come no further."""
        release = self.find_recorded(run)
        while release is not None and not self._was_live(release.id):
            previous = release.previous
            release = self.release(previous) if previous and self._is_of(run, previous) else None
        return release

    def _is_of(self, run: str, release_id: str) -> bool:
        return str(self._client.get_model_version(self._params.model, release_id).run_id) == run

    def _was_live(self, release_id: str) -> bool:
        """Whether a release is live, or was until a rollback."""
        return release_id == self.live_release_id() or any(cycle.undone == release_id for cycle in self.history())


def _with_part(parts: Sequence[PartOutcome], release: Release) -> str:
    """Return the recorded parts of a killed cycle as JSON, with the one that made its last release."""
    if release.id not in {part.release for part in parts}:
        score = release.scorecard.answer_score.value
        parts = [*parts, PartOutcome(action=release.decision, accepted=True, release=release.id, score_after=score)]
    return json.dumps([part.model_dump(mode="json") for part in parts])


def _artifact_folder(version: Any) -> str:
    """Return where a version's artifacts are, below those of its run."""
    return str(version.source).rsplit("/", 1)[-1]


def _release_tags(release: Release) -> dict[str, str]:
    return {
        "data_rev": release.snapshot.id,
        "index_version": str(release.index.version),
        "index_tag": release.index_tag,
        "adapter": release.model.adapter or "none",
        "tuned_embedder": release.index.tuned_embedder.digest if release.index.tuned_embedder else "none",
        "decision": str(release.decision),
        "answer_score": str(release.scorecard.answer_score.value),
        "previous": release.previous or "none",
    }
