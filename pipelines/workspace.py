"""Paths of a project: every file and folder below the project's root, and the locks on them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.lease import NO_WAIT, Lease, WaitPolicy, acquire_lease
from ragtide.pipelines.params import Params, read_params
from ragtide.pipelines.records.base import STATE, close_to_others, make_folder

# A publish or a rollback holds the pointer for a second or two, longer if it has to download weights first.
POINTER_SECONDS = 60.0


def is_same_server(first: str, second: str) -> bool:
    """Whether two addresses name the same host and port."""
    left, right = urlsplit(first.replace("localhost", "127.0.0.1")), urlsplit(second)
    return (left.hostname, left.port) == (right.hostname, right.port)


@dataclass(frozen=True)
class Workspace:
    """A project's root folder with its settings: it holds data/, params.yaml and dvc.yaml, and state in .ragtide/."""

    root: Path
    params: Params

    @classmethod
    def open(cls, root: Path) -> Workspace:
        """Open the project at `root`, and close its state to other users.

        Raises UserError for an unreadable params.yaml, or data outside the project.
        """
        root = root.resolve()
        workspace = cls(root=root, params=read_params(root / "params.yaml"))
        # Where nothing can be written, reading still works.
        with suppress(OSError):
            close_to_others(workspace.state)
        for key, folder in workspace.data_folders.items():
            if root not in Path(os.path.normpath(folder)).parents:
                message = f"data.{key} = {folder} is not below the project's folder {root}"
                raise UserError(f"{root / 'params.yaml'}: {message}: move the data there, so that DVC can version it")
        return workspace

    @property
    def data_folders(self) -> dict[str, Path]:
        """The three data folders by the names of their settings."""
        return {"kb": self.kb, "train": self.train, "golden": self.golden}

    @property
    def kb(self) -> Path:
        return self.root / self.params.data.kb

    @property
    def train(self) -> Path:
        return self.root / self.params.data.train

    @property
    def golden(self) -> Path:
        return self.root / self.params.data.golden

    @property
    def imports(self) -> Path:
        """Where DVC puts imported data, which is then copied to the folders above."""
        return self.root / "data" / "imports"

    @property
    def state(self) -> Path:
        return self.root / STATE

    @property
    def index_uri(self) -> str:
        return self.params.index.uri or str(self.state / "lance")

    @property
    def tracking_uri(self) -> str:
        return self.params.registry.tracking_uri or f"sqlite:///{self.mlflow_database}"

    @property
    def mlflow_auth_file(self) -> Path:
        """The password that `ragtide up` and `ragtide ui` generate for their MLflow server."""
        return self.state / "services" / "mlflow-password"

    @property
    def writes_through_own_server(self) -> bool:
        """Whether runs are written through the MLflow server that `ragtide up` starts."""
        uri = self.params.registry.tracking_uri
        return uri is not None and uri.startswith("http") and is_same_server(uri, self.params.services.mlflow_url)

    @property
    def mlflow_database(self) -> Path:
        """MLflow's database, where registry.tracking_uri names no other store."""
        return self.state / "mlflow.db"

    @property
    def artifact_store(self) -> str:
        """The URI of MLflow's artifact store."""
        return self.params.registry.artifacts or (self.state / "mlartifacts").as_uri()

    @property
    def adapters(self) -> Path:
        return self.state / "adapters"

    @property
    def tuned_embedders(self) -> Path:
        """Fine-tuned embedders, each in a folder named by the digest of its weights."""
        return self.state / "embedders"

    @property
    def artifacts(self) -> Path:
        """The outputs of the DVC stages."""
        return self.root / "artifacts"

    @property
    def index_artifact(self) -> Path:
        """The record of the last built index, the output of the DVC stage `index`."""
        return self.artifacts / "index.json"

    @property
    def quarantine_file(self) -> Path:
        return self.state / "quarantine.json"

    @property
    def withheld_file(self) -> Path:
        return self.state / "withheld.json"

    @property
    def approvals(self) -> Path:
        return self.state / "approvals"

    @property
    def rejections(self) -> Path:
        return self.state / "rejections"

    @property
    def answers(self) -> Path:
        """The cache of answers, losses and judge scores."""
        return self.state / "answers"

    @property
    def logs(self) -> Path:
        """The tracebacks of defects."""
        return self.state / "logs"

    @property
    def texts(self) -> Path:
        """The cached text of documents in formats that are slow to convert."""
        return self.state / "texts"

    @property
    def reading(self) -> Path:
        """Notes of the documents that are being read."""
        return self.state / "reading"

    def snapshot_file(self, snapshot_id: str) -> Path:
        return self.state / "snapshots" / f"{snapshot_id}.json"

    def plan_file(self, digest: str) -> Path:
        return self.state / "plans" / f"{digest}.json"

    @contextmanager
    def write_lock(
        self, wait_seconds: float = 0, what: str = "", notify: Callable[[str], object] = NO_WAIT.notify
    ) -> Iterator[Lease]:
        """Hold the project's write lock for the operation `what`; wait up to `wait_seconds` for another holder.

        Raises UserError naming the holder if the wait is too short. `notify` receives one message that names the
        holder before the wait. The lock of a killed process is taken over: see ragtide.pipelines.lease.
        """
        with acquire_lease(self.state, what, WaitPolicy(wait_seconds, notify)) as lease:
            yield lease

    @contextmanager
    def pointer_lock(self) -> Iterator[None]:
        """Hold the lock on the pointer to the live release, for a moment; independent of the write lock.

        The operating system frees this lock when its holder dies. Raises UserError after POINTER_SECONDS.
        """
        make_folder(self.state)
        try:
            with FileLock(self.state / "pointer.lock", timeout=POINTER_SECONDS):
                yield
        except Timeout as problem:
            message = f"another process has held the lock on the live release for {POINTER_SECONDS:.0f} s"
            raise UserError(f"{message} in {self.root}: wait for it, or stop it") from problem
