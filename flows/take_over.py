"""What if a service was killed and its child holds the port? The child is ended, and the service starts anew.

`python -m flows.take_over MODULE ARGUMENTS…` becomes `python -m MODULE ARGUMENTS…`, under the same process id.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

import psutil

from flows.services import GRACE_SECONDS, MARK

POLL_SECONDS = 0.1


def end(processes: list[psutil.Process], grace_seconds: float) -> None:
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
    while (alive := [one for one in processes if lives(one)]) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return alive


def lives(process: psutil.Process) -> bool:
    """Whether a process still does anything: one that has ended stays listed until its parent has taken note."""
    with suppress(psutil.Error):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def left_behind() -> Iterator[psutil.Process]:
    """What an earlier process of this very service has left: MLflow's server has a child that listens."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            told, own = process.environ(), os.environ
            is_same = all(told.get(key) == own.get(key) for key in (MARK, "SUPERVISOR_PROCESS_NAME"))
            if is_same and process.pid != os.getpid():
                yield process


if __name__ == "__main__":
    end(list(left_behind()), GRACE_SECONDS)
    os.execv(sys.executable, [sys.executable, "-m", *sys.argv[1:]])
