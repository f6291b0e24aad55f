"""The project's MLflow experiment: client, page layout and addresses, shared by cycle and release registry."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import cast

from mlflow.exceptions import MlflowException

from ragtide.pipelines.errors import UnavailableError
from ragtide.pipelines.records.base import make_folder
from ragtide.pipelines.registry.client import MlflowStore, RegistryClient, store_unavailable
from ragtide.pipelines.registry.layout import experiment_tags
from ragtide.pipelines.registry.runs import RunLog
from ragtide.pipelines.workspace import Workspace

# It logs what it raises, with the traceback; the caller reports the same in one line.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


class MlflowExperiment:
    """The MLflow experiment and registered model that the workspace names."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._params = workspace.params.registry

    @cached_property
    def _client(self) -> RegistryClient:
        make_folder(self._workspace.state)
        auth_file = self._workspace.mlflow_auth_file if self._workspace.writes_through_own_server else None
        return cast("RegistryClient", MlflowStore(self._workspace.tracking_uri, auth_file))

    @property
    def exists(self) -> bool:
        """Whether a store can hold anything yet; reading must not create a database."""
        return bool(self._params.tracking_uri) or (self._workspace.state / "mlflow.db").exists()

    @cached_property
    def experiment(self) -> str:
        """The experiment's id; the experiment is created where it does not exist yet."""
        existing = self._client.get_experiment_by_name(self._params.experiment)
        return str(existing.experiment_id) if existing else self._create_experiment()

    def address(self, log: RunLog) -> str:
        """The URL of a run's page, on the server that `ragtide up` and `ragtide ui` start where none is configured."""
        uri = self._workspace.tracking_uri
        server = uri if uri.startswith("http") else self._workspace.params.services.mlflow_url
        return f"{server.rstrip('/')}/#/experiments/{self.experiment}/runs/{log.id}"

    def _create_experiment(self) -> str:
        through_server = self._workspace.tracking_uri.startswith("http")
        artifacts = None if through_server else self._workspace.artifact_store
        try:
            return str(self._client.create_experiment(self._params.experiment, artifact_location=artifacts))
        except MlflowException as problem:
            # Another process may have created it in the meantime.
            existing = self._client.get_experiment_by_name(self._params.experiment)
            if existing is None:
                raise problem
            return str(existing.experiment_id)

    def _write_layout(self) -> None:
        """Write the experiment's description and saved views; a tag that a person has edited stays as it is."""
        existing = self._client.get_experiment(self.experiment).tags
        for key, value in experiment_tags(self.experiment, self._params.model).items():
            if key not in existing:
                self._client.set_experiment_tag(self.experiment, key, value)

    def _unavailable(self, problem: MlflowException) -> UnavailableError:
        return store_unavailable(self._workspace.tracking_uri, problem)
