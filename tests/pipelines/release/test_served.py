"""Tests of `ragtide serve` with a real server on loopback: answers, traces and following the pointer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Trace
from mlflow.tracking import MlflowClient

from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.release import BuiltModel
from ragtide.pipelines.release.rollback import roll_back
from tests.conftest import ROOT, write_project
from tests.factories import write
from tests.fakes import SKILLS
from tests.projects import release_of
from tests.servers import eventually, free_port

PUMP = "When does Pump 1 reach end of life?"
OLD, NEW = "2027-01-01", "2031-05-05"


@dataclass(frozen=True)
class Server:
    """A served project, and requests to it."""

    root: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def project(self) -> Project:
        return Project.open(self.root, no_progress)

    def post(self, body: dict[str, Any]) -> tuple[int, Any]:
        url = f"http://127.0.0.1:{self.port}/invocations"
        request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refused:
            return refused.code, json.load(refused)

    def says(self) -> tuple[str, str]:
        """The number of the release that answers, and what it answers."""
        status, body = self.post({"inputs": [{"question": PUMP}]})
        assert status == 200, body
        [reply] = body["predictions"]
        return reply["release"], reply["answer"]

    def traces(self) -> list[Trace]:
        uri = self.project.workspace.tracking_uri
        return list(MlflowClient(tracking_uri=uri).search_traces([self.project.registry.experiment]))

    @property
    def is_ready(self) -> bool:
        assert self.process.poll() is None, "the server ended before it was ready"
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ping", timeout=5) as answer:
            return bool(answer.status == 200)


def released(root: Path, end_of_life: str) -> None:
    write(root / "data/kb/pump.md", f"# Pump\n\n## Pump 1\n\n- End of life: {end_of_life}\n")
    project = Project.open(root, no_progress)
    write(project.workspace.adapters / "a1" / SKILLS, json.dumps({"reads": True}))
    release_of(project, BuiltModel(base="reader-1", adapter="a1", examples=None, settings=None))


@contextmanager
def serving(root: Path) -> Iterator[Server]:
    """`ragtide serve`, as a user without an activated environment calls it; ended with all that it started."""
    port = free_port()
    command = [sys.executable, "-m", "ragtide", "serve", "--project", str(root), "--port", str(port)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    with (root.parent / "server.log").open("w") as log:
        process = subprocess.Popen(
            command, env=environment, cwd=root.parent, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            server = Server(root, port, process)
            assert eventually(lambda: server.is_ready)
            yield server
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.mark.services
def test_a_server_answers_follows_a_promotion_and_a_rollback_and_leaves_traces(tmp_path: Path) -> None:
    root = write_project(tmp_path / "project")
    write(root / "data/golden/q.jsonl", json.dumps({"question": PUMP, "answers": [OLD], "docs": ["pump.md"]}))
    released(root, OLD)
    with serving(root) as server:
        assert server.says() == ("1", OLD)
        released(root, NEW)
        assert server.says() == ("2", NEW)
        roll_back(server.project.registry, None, "a test")
        assert server.says() == ("1", OLD)
        status, body = server.post({"inputs": [{"question": ""}]})
        assert (status, list(body)) == (400, ["error"])
        assert server.project.ask(PUMP)[1].text == OLD
        # Written in the background, a moment after the answer.
        assert eventually(lambda: [trace.info.tags.get("release") for trace in server.traces()] == ["1", "2", "1"])
        assert {span.span_type for span in server.traces()[0].data.spans} == {"CHAIN", "RETRIEVER", "LLM"}
