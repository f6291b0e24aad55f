"""Bounded end of a process after SIGTERM or Ctrl-C, also where native code of a library keeps the main thread busy.

The first signal raises SystemExit in the main thread, which ends the steps in order and records the cycle as
interrupted. Python delivers it only between two of its own instructions, and an embedding or a training step may take
minutes. So a thread learns of the signal from the interpreter's wake-up descriptor, which is written at once; after
GRACE_SECONDS it records the interruption itself, ends the child processes and the process. A second Ctrl-C does not
wait for that.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import NoReturn

GRACE_SECONDS = 5.0
# For recording the interruption, and for the child processes between SIGTERM and SIGKILL.
RECORD_SECONDS = 2.0
CHILD_SECONDS = 2.0
NAMES = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}
# Exit code of a process that a signal ended, as shells count it: this plus the signal's number.
SIGNAL_CODE = 128


class _Interruption:
    """The signal that this process has received, and the thread that ends the process in time."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.is_command = False
        self.disarmed = threading.Event()
        self.reader: socket.socket | None = None
        self.ending = threading.Lock()

    def watch(self) -> None:
        """Start the thread, once; in the main thread alone, since the wake-up descriptor belongs to it."""
        if self.reader is not None or threading.current_thread() is not threading.main_thread():
            return
        self.reader, writer = socket.socketpair()
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
        threading.Thread(target=self._end_in_time, name="interruption", daemon=True).start()

    def _next_signal(self) -> int:
        """Wait for the number of the next signal that ends the process."""
        assert self.reader is not None
        while (number := self.reader.recv(1)[0]) not in NAMES:
            pass
        return number

    def _end_in_time(self) -> None:
        self.signal = self._next_signal()
        if self.is_command:
            # What is logged from here on is about the interruption alone, such as a server that has ended too.
            logging.disable()
        threading.Thread(target=self._end_at_second_interrupt, daemon=True).start()
        if not self.disarmed.wait(GRACE_SECONDS):
            name = NAMES[signal.Signals(self.signal)]
            recording = threading.Thread(target=_record_interruption, args=(name,), daemon=True)
            recording.start()
            recording.join(RECORD_SECONDS)
            end_interrupted(self.signal)

    def _end_at_second_interrupt(self) -> None:
        # SIGTERM may come again from Prefect, which sends it on to the process once a flow has ended.
        while self._next_signal() != signal.SIGINT:
            pass
        if not self.disarmed.is_set():
            _end_children(0)
            os._exit(SIGNAL_CODE + signal.SIGINT)


_interruption = _Interruption()


def exit_on_signals() -> None:
    """Let SIGTERM and Ctrl-C end this process by SystemExit with code 143 or 130, and in any case in time."""
    for number in NAMES:
        signal.signal(number, _exit_by_signal)
    _interruption.is_command = True
    watch_signals()


def watch_signals() -> None:
    """End this process in time after a signal, whose handler stays that of another library, such as Prefect's."""
    _interruption.watch()


def received_signal() -> int | None:
    """The number of the signal that is ending this process, or None."""
    return None if _interruption.disarmed.is_set() else _interruption.signal


def end_without_deadline() -> None:
    """Let the process take its time although it has received a signal: `ragtide up` first stops its services."""
    _interruption.disarmed.set()


def _exit_by_signal(number: int, _frame: FrameType | None) -> NoReturn:
    # The thread learns of it in its own time.
    _interruption.signal = number
    logging.disable()
    sys.exit(SIGNAL_CODE + number)


def end_interrupted(number: int) -> NoReturn:
    """Report the interruption in one line, end the child processes, and end this process at once."""
    # Never released: the main thread and the one that watches it may both come here.
    _interruption.ending.acquire()
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        name = NAMES[signal.Signals(number)]
        os.write(2, f"ragtide: interrupted by {name}: the next run completes or discards what was begun\n".encode())
    _end_children(CHILD_SECONDS)
    os._exit(SIGNAL_CODE + number)


def _record_interruption(name: str) -> None:
    """Record the open runs as interrupted, where this process has opened any."""
    cycles = sys.modules.get("ragtide.pipelines.registry.cycles")
    if cycles is not None:
        cycles.interrupt_open_runs(name)


def _end_children(grace_seconds: float) -> None:
    """End every process that this one has started: DVC, Prefect's server, converters."""
    import psutil

    children = psutil.Process().children(recursive=True)
    for child in children:
        with suppress(psutil.Error):
            child.terminate() if grace_seconds else child.kill()
    _, alive = psutil.wait_procs(children, grace_seconds)
    for child in alive:
        with suppress(psutil.Error):
            child.kill()
