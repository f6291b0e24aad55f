"""Tests of port cleanup: a restarted service ends its own orphaned children and no other process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from tests.servers import PATIENCE_SECONDS

MARK = {"RAGTIDE_SERVICES": "/a/project/of/this/test"}


def child(**variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], env=os.environ | variables, text=True
    )


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    """An orphan of an earlier server, a process of another service, and one of another project."""
    orphan = child(**MARK, SUPERVISOR_PROCESS_NAME="mlflow")
    others = [child(**MARK, SUPERVISOR_PROCESS_NAME="worker"), child(SUPERVISOR_PROCESS_NAME="mlflow")]
    yield [orphan, *others]
    for process in (orphan, *others):
        process.kill()
        process.wait()


def test_an_orphan_is_ended_and_the_module_runs_in_this_process(
    processes: list[subprocess.Popen[str]],
) -> None:
    orphan, *others = processes
    environment = os.environ | MARK | {"SUPERVISOR_PROCESS_NAME": "mlflow"}
    command = [
        sys.executable,
        "-m",
        "ragtide.flows.services.port_cleanup",
        "timeit",
        "-n",
        "1",
        "import os; print(os.getpid())",
    ]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0
    assert output.split()[0] == str(process.pid)
    assert orphan.wait(timeout=PATIENCE_SECONDS) != 0
    assert all(psutil.Process(other.pid).is_running() and other.poll() is None for other in others)
