"""Helpers of tests of `ragtide up`: a project outside this repository whose commands run as a user's."""

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
# The last release of a site's first cycle, which releases an index and then a model, and the one after it.
FIRST, SECOND = "2", "3"


@dataclass
class Site:
    """A project's folder with services on free ports, and the environment of its commands."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, root: Path, **blocks: dict[str, Any]) -> Site:
        ports = {f"{name}_port": free_port() for name in ("prefect", "mlflow", "webhook")}
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
        """Start `ragtide` with `words` in the project's folder, without variables of other servers."""
        return self._start("ragtide", *words)

    def ragtide(self, *words: str) -> str:
        """The output of a command that succeeds."""
        return self._end(self.start(*words), 0)

    def refused(self, *words: str) -> str:
        """The output of a command that fails with exit code 1."""
        return self._end(self.start(*words), 1)

    def live_release(self) -> str | None:
        """The number of the live release, as shown by `ragtide status`."""
        match = re.search(r"live release\s+(\d+),", self.ragtide("status"))
        return match and match[1]

    def becomes_live(self, number: str) -> bool:
        """Whether a release becomes live in time, by the metrics file, since polling with a command slows the run."""
        metrics = self.workspace.state / METRICS
        pattern = re.compile(rf'^ragtide_live_release_info{{.*release="{number}"}}', re.MULTILINE)
        return bool(eventually(lambda: pattern.search(metrics.read_text()))) and self.live_release() == number

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
        output, _ = process.communicate(timeout=300)
        assert process.returncode == code, output
        return output

    @contextmanager
    def up(self) -> Iterator[str]:
        """Run the services; yields the output of `ragtide up`."""
        try:
            yield self.ragtide("up", "--detach")
        finally:
            self.ragtide("down")
