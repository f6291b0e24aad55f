"""Where does a project keep its things? Every path below a project's folder has its one name here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from pipelines.errors import RefusalError
from pipelines.params import Params, read_params


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
                raise RefusalError(f"{root / 'params.yaml'}: {message}: DVC versions what lies there")
        return workspace

    @property
    def kb(self) -> Path:
        return self.root / self.params.observe.kb

    @property
    def train(self) -> Path:
        return self.root / self.params.observe.train

    @property
    def golden(self) -> Path:
        return self.root / self.params.observe.golden

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
    def adapters(self) -> Path:
        return self.state / "adapters"

    @property
    def retrievers(self) -> Path:
        """Tuned embedders, each under the digest of its weights."""
        return self.state / "retrievers"

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
    def texts(self) -> Path:
        """Documents that are slow to convert, as text."""
        return self.state / "texts"

    def snapshot_file(self, snapshot_id: str) -> Path:
        return self.state / "snapshots" / f"{snapshot_id}.json"

    def plan_file(self, digest: str) -> Path:
        return self.state / "plans" / f"{digest}.json"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the project for writing. Raises RefusalError at once where another process holds it.

        The operating system frees the lock when its holder dies, so a killed run blocks nobody.
        """
        self.state.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.state / "lock", timeout=0):
                yield
        except Timeout as problem:
            message = f"another run is at work in {self.root}: wait for it, or see what it does with `ragtide history`"
            raise RefusalError(message) from problem
