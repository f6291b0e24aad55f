"""What if a service was killed and its child holds the port? The child is ended, and the service starts anew.

`python -m ragtide.flows.services.port_cleanup MODULE ARGUMENTS…` execs `python -m MODULE ARGUMENTS…`.
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
    """Ask them to end, and kill what has not done so after `grace_seconds`."""
    for process in processes:
        with suppress(psutil.Error):
            process.terminate()
    for process in _alive_after(grace_seconds, processes):
        with suppress(psutil.Error):
            process.kill()
    _alive_after(grace_seconds, processes)


def _alive_after(seconds: float, processes: list[psutil.Process]) -> list[psutil.Process]:
    deadline = time.monotonic() + seconds
    while (alive := [one for one in processes if is_alive(one)]) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return alive


def is_alive(process: psutil.Process) -> bool:
    """Whether a process still does anything: one that has ended stays listed until its parent has taken note."""
    with suppress(psutil.Error):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def leftover_processes() -> Iterator[psutil.Process]:
    """What an earlier process of this very service has left: MLflow's server has a child that listens."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            told, own = process.environ(), os.environ
            is_same = all(told.get(key) == own.get(key) for key in (MARK, "SUPERVISOR_PROCESS_NAME"))
            if is_same and process.pid != os.getpid():
                yield process


if __name__ == "__main__":
    terminate(list(leftover_processes()), GRACE_SECONDS)
    os.execv(sys.executable, [sys.executable, "-m", *sys.argv[1:]])
