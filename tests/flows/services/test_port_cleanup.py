"""Does a service that starts anew find its port free, and end nobody else?"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from tests.servers import PATIENCE_SECONDS

MARK = {"RAGTIDE_SERVICES": "/a/project/of/this/test"}


def child(**told: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env=os.environ | told, text=True)


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    """What an earlier server left, what another service of the project runs, and the same of another project."""
    left = child(**MARK, SUPERVISOR_PROCESS_NAME="mlflow")
    others = [child(**MARK, SUPERVISOR_PROCESS_NAME="worker"), child(SUPERVISOR_PROCESS_NAME="mlflow")]
    yield [left, *others]
    for process in (left, *others):
        process.kill()
        process.wait()


def test_what_an_earlier_server_left_is_ended_and_the_module_takes_its_place(
    processes: list[subprocess.Popen[str]],
) -> None:
    left, *others = processes
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
    said, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0
    assert said.split()[0] == str(process.pid)
    assert left.wait(timeout=PATIENCE_SECONDS) != 0
    assert all(psutil.Process(other.pid).is_running() and other.poll() is None for other in others)
