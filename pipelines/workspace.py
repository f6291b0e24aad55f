"""Where does a project keep its things? Every path below a project's folder has its one name here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.lease import NO_WAIT, Lease, WaitPolicy, acquire_lease
from ragtide.pipelines.params import Params, read_params

# A publish or a rollback holds the pointer for a second or two, longer where weights are fetched for it first.
POINTER_SECONDS = 60.0


@dataclass(frozen=True)
class Workspace:
    """A project's folder with its settings: data/, params.yaml and dvc.yaml in it, state under .ragtide/."""

    root: Path
    params: Params

    @classmethod
    def open(cls, root: Path) -> Workspace:
        """Open the project at `root`. Raises RefusalError for no readable params.yaml, or data outside the project."""
        root = root.resolve()
        workspace = cls(root=root, params=read_params(root / "params.yaml"))
        for key in ("kb", "train", "golden"):
            folder = getattr(workspace, key)
            if root not in Path(os.path.normpath(folder)).parents:
                message = f"observe.{key} = {folder} is not below the project's folder {root}"
                raise UserError(f"{root / 'params.yaml'}: {message}: DVC versions what lies there")
        return workspace

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
        """What DVC imports from elsewhere; from here it is copied to the folders above."""
        return self.root / "data" / "imports"

    @property
    def state(self) -> Path:
        return self.root / ".ragtide"

    @property
    def index_uri(self) -> str:
        return self.params.index.uri or str(self.state / "lance")

    @property
    def tracking_uri(self) -> str:
        return self.params.registry.tracking_uri or f"sqlite:///{self.state / 'mlflow.db'}"

    @property
    def artifact_store(self) -> str:
        """Where MLflow keeps files."""
        return self.params.registry.artifacts or (self.state / "mlartifacts").as_uri()

    @property
    def adapters(self) -> Path:
        return self.state / "adapters"

    @property
    def tuned_embedders(self) -> Path:
        """Tuned embedders, each under the digest of its weights."""
        return self.state / "embedders"

    @property
    def artifacts(self) -> Path:
        """What the DVC stages write."""
        return self.root / "artifacts"

    @property
    def quarantine_file(self) -> Path:
        return self.state / "quarantine.json"

    @property
    def approvals(self) -> Path:
        return self.state / "approvals"

    @property
    def rejections(self) -> Path:
        return self.state / "rejections"

    @property
    def texts(self) -> Path:
        """Documents that are slow to convert, as text."""
        return self.state / "texts"

    def snapshot_file(self, snapshot_id: str) -> Path:
        return self.state / "snapshots" / f"{snapshot_id}.json"

    def plan_file(self, digest: str) -> Path:
        return self.state / "plans" / f"{digest}.json"

    @contextmanager
    def write_lock(
        self, wait_seconds: float = 0, what: str = "", tell: Callable[[str], object] = NO_WAIT.tell
    ) -> Iterator[Lease]:
        """Hold the project for writing, as the one who does `what`; another holder is waited for up to `wait_seconds`.

        Raises RefusalError, with who holds it, where that is not enough; whoever waits is told once for whom, by
        `tell`. A killed holder blocks nobody: see ragtide.pipelines.lease.
        """
        with acquire_lease(self.state, what, WaitPolicy(wait_seconds, tell)) as lease:
            yield lease

    @contextmanager
    def pointer_lock(self) -> Iterator[None]:
        """Be the only one who moves the pointer to what is live: for moments, and during a run too.

        The operating system frees this lock with its holder. Raises RefusalError where it is not free for long.
        """
        self.state.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.state / "pointer.lock", timeout=POINTER_SECONDS):
                yield
        except Timeout as problem:
            message = f"another process has been moving the pointer to what is live for {POINTER_SECONDS:.0f} s"
            raise UserError(f"{message} in {self.root}: wait for it, or end it") from problem
