"""What do tests of `ragtide up` share? A project outside this repository whose commands run as a user's do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo.pages import quarters, write_quarter
from ragtide.flows.prefect_server.metrics import FILE as METRICS
from ragtide.pipelines.workspace import Workspace
from tests.conftest import write_project
from tests.servers import eventually, free_port

ROOT = Path(__file__).parent.parent


@dataclass
class Site:
    """A project's folder with services on free ports, and what is in the environment of its commands."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, root: Path, **blocks: dict[str, Any]) -> Site:
        ports = {f"{name}_port": free_port() for name in ("prefect", "mlflow", "door")}
        write_project(root, **blocks | {"services": ports | blocks.get("services", {})})
        shutil.copy(ROOT / "prefect.yaml", root)
        write_quarter(root, quarters()[0])
        return cls(root, {"PYTHONPATH": str(ROOT), "RAGTIDE_PROJECT": str(root)})

    @property
    def workspace(self) -> Workspace:
        return Workspace.open(self.root)

    def url(self, name: str) -> str:
        return str(getattr(self.workspace.params.services, f"{name}_url"))

    def start(self, *words: str) -> subprocess.Popen[str]:
        """`ragtide` with `words`, in the project's folder, knowing nothing of other servers."""
        return self._start("ragtide.flows.cli.main", *words)

    def ragtide(self, *words: str) -> str:
        """What a command that succeeds says."""
        return self._end(self.start(*words), 0)

    def refused(self, *words: str) -> str:
        """What a command that is refused says."""
        return self._end(self.start(*words), 1)

    def live_release(self) -> str | None:
        """The number of the live release, as `ragtide status` tells it."""
        found = re.search(r"live release\s+(\d+),", self.ragtide("status"))
        return found and found[1]

    def becomes_live(self, number: str) -> bool:
        """Whether a release gets live in time: in the metrics' file, since a command at each look slows the run."""
        metrics = self.workspace.state / METRICS
        told = re.compile(rf'^ragtide_live_release_info{{.*release="{number}"}}', re.MULTILINE)
        return bool(eventually(lambda: told.search(metrics.read_text()))) and self.live_release() == number

    def dvc(self, *words: str) -> str:
        return self._end(self._start("dvc", *words), 0)

    def _start(self, *words: str) -> subprocess.Popen[str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT", "MLFLOW"))}
        return subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=self.root,
            env=inherited | self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @staticmethod
    def _end(process: subprocess.Popen[str], code: int) -> str:
        said, _ = process.communicate(timeout=300)
        assert process.returncode == code, said
        return said

    @contextmanager
    def up(self) -> Iterator[str]:
        """The services, while they run; what `up` said."""
        try:
            yield self.ragtide("up", "--detach")
        finally:
            self.ragtide("down")
