"""Does a deployed cron really get a scheduled run? "The server is up" proves nothing (docs/decisions)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
PATIENCE_SECONDS = 90


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def post(url: str, body: dict[str, Any]) -> Any:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


@contextmanager
def prefect_server(home: Path) -> Iterator[dict[str, str]]:
    """A real server on loopback, stopped by its own id; yields the environment of its clients."""
    port = free_port()
    environment = os.environ | {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "RAGTIDE_PROJECT": str(ROOT),
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (home / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield environment
        finally:
            server.terminate()
            try:
                server.wait(timeout=20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def eventually(claim: Any) -> Any:
    """The first true answer of `claim` within the time that a loaded machine may need."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            if found := claim():
                return found
        except OSError:
            pass
        time.sleep(0.5)
    return None


@pytest.mark.services
def test_the_nightly_cron_of_prefect_yaml_gets_scheduled_runs(tmp_path: Path) -> None:
    with prefect_server(tmp_path) as environment:
        api = environment["PREFECT_API_URL"]
        assert eventually(lambda: urllib.request.urlopen(f"{api}/health", timeout=5).status == 200)
        prefect = [sys.executable, "-m", "prefect", "--no-prompt"]
        for arguments in (["work-pool", "create", "ragtide", "--type", "process"], ["deploy", "--all"]):
            done = subprocess.run(
                [*prefect, *arguments], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
        body = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}, "limit": 5}
        runs = eventually(lambda: post(f"{api}/flow_runs/filter", body))
    assert runs
    assert all(run["auto_scheduled"] for run in runs)
