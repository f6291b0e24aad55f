"""Cleanup of ports: orphaned children of a killed service end before the service is restarted.

`python -m ragtide.flows.services.port_cleanup MODULE ARGUMENTS…` does so and then execs `python -m MODULE ARGUMENTS…`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

import psutil

from ragtide.flows.services.settings import GRACE_SECONDS, MARK

POLL_SECONDS = 0.1


def terminate(processes: list[psutil.Process], grace_seconds: float) -> None:
    """Send SIGTERM to `processes`, and SIGKILL to those that are alive after `grace_seconds`."""
    for process in processes:
        with suppress(psutil.Error):
            process.terminate()
    for process in _alive_after(grace_seconds, processes):
        with suppress(psutil.Error):
            process.kill()
    _alive_after(grace_seconds, processes)


def _alive_after(seconds: float, processes: list[psutil.Process]) -> list[psutil.Process]:
    deadline = time.monotonic() + seconds
    while (alive := [process for process in processes if is_alive(process)]) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return alive


def is_alive(process: psutil.Process) -> bool:
    """Whether a process is running and no zombie, which stays listed until its parent has waited for it."""
    with suppress(psutil.Error):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def leftover_processes() -> Iterator[psutil.Process]:
    """Processes left by an earlier instance of this service, such as the child of MLflow's server that listens."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            environment = process.environ()
            is_same = all(environment.get(key) == os.environ.get(key) for key in (MARK, "SUPERVISOR_PROCESS_NAME"))
            if is_same and process.pid != os.getpid():
                yield process


if __name__ == "__main__":
    terminate(list(leftover_processes()), GRACE_SECONDS)
    os.execv(sys.executable, [sys.executable, "-m", *sys.argv[1:]])
