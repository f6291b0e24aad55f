"""Test helpers for whole projects: a project folder, and releases made without a cycle's steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow.tracking import MlflowClient

from ragtide.pipelines.build import build_index
from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.models import openvino_export, weights
from ragtide.pipelines.models.load import LoadedEmbedder
from ragtide.pipelines.planning.plan import make_plan
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.decision import Plan
from ragtide.pipelines.records.evaluation import Verdict
from ragtide.pipelines.records.release import BuiltEmbedder, BuiltModel, Candidate, Release
from ragtide.pipelines.registry.releases import Registry
from ragtide.pipelines.release.publish import publish_candidate
from ragtide.pipelines.workspace import Workspace
from tests.factories import measure, release, scorecard


@dataclass
class Home:
    """A project folder, reopened at each access as every command does."""

    root: Path

    @property
    def project(self) -> Project:
        return Project.open(self.root, no_progress)

    def set(self, block: str, **values: object) -> None:
        """Change params.yaml."""
        content = yaml.safe_load((self.root / "params.yaml").read_text(encoding="utf-8"))
        content[block] |= values
        (self.root / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")

    def planned(self) -> Plan:
        """The plan of the next cycle."""
        project = self.project
        return make_plan(project, project.corpus(take_snapshot(project.workspace)))

    @property
    def live(self) -> Release:
        release = self.project.registry.champion()
        assert release is not None
        return release


def release_of(project: Project, model: BuiltModel, tuned: BuiltEmbedder | None = None) -> Release:
    """Release the current data with that model and, if given, that embedder, under a verdict without checks."""
    space = project.workspace
    corpus = project.corpus(take_snapshot(space))
    corpus.snapshot.write(space.snapshot_file(corpus.snapshot.id))
    index = build_index(space, LoadedEmbedder(project.models.embedder, tuned), corpus.knowledge, no_progress)
    card = scorecard(snapshot=corpus.snapshot.id)
    verdict = Verdict(accepted=True, checks=(), before=card, after=card, difference=measure(0.0))
    live = project.registry.live_release_id()
    candidate = Candidate(snapshot=corpus.snapshot, index=index, model=model, decision=Action.REFRESH, previous=live)
    with project.registry.cycle() as log:
        released = publish_candidate(project, log, candidate, verdict)
        log.tags({"outcome": "released", "release": released.id})
        return released


def forget_databases() -> None:
    """Close the databases that MLflow keeps open by address, where a test has put another file at the address."""
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Models
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as Runs
    from mlflow.tracking._model_registry.utils import _get_store_registry
    from mlflow.tracking._tracking_service.utils import _tracking_store_registry

    for store in (Models, Runs):
        for engine in store._engine_map.values():
            engine.dispose()
        store._engine_map.clear()
    _tracking_store_registry._get_store_with_resolved_uri.cache_clear()
    _get_store_registry()._get_store_with_resolved_uri.cache_clear()


def recorded_release(registry: Registry, **fields: Any) -> Release:
    """A complete release, recorded in a cycle of its own, that is not live."""
    with registry.cycle() as log:
        draft = registry.draft(log)
        made = release(int(draft.id), **fields)
        registry.record_release(made, draft, log)
    return made


def mlflow_client(space: Workspace) -> MlflowClient:
    """MLflow's own client for a project's database."""
    return MlflowClient(tracking_uri=space.tracking_uri, registry_uri=space.tracking_uri)


@contextmanager
def model_cache(home: Path) -> Iterator[Path]:
    """A cache of exported models in `home`, so that each is exported once and no older export is used."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (openvino_export, weights):
            patch.setattr(module, "user_cache_path", lambda name: home / name)
        yield home / "ragtide" / "models"
