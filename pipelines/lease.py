"""Who may write to a project? One at a time, who shows that it is alive, or is followed by the next.

The lease is filelock's: a file that names its owner, and whose time the owner moves on while it lives. An owner whose
process is gone is followed at once; one that is stopped, or on another machine, once whoever waits has seen no sign of
life for LEASE_SECONDS of its own monotonic clock. A clock that jumps takes nobody's lease. Nothing ends an owner that
was followed: so it asks `Lease.check` before anything of its becomes final (docs/decisions/0017).
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

from ragtide.pipelines.errors import UserError, summarize_error
from ragtide.pipelines.records.base import Record

log = logging.getLogger(__name__)
LEASE_SECONDS = 90.0
BEAT_SECONDS = 15.0
POLL_SECONDS = 0.5
# How long a missing or strange file is looked at again: a process that follows another swaps the file for a moment.
SWAP_SECONDS = 0.2


class LeaseHolder(Record):
    """Who holds the lease: the claim's token, what it does, and since when (ISO 8601, UTC)."""

    token: str
    what: str
    since: str


@dataclass(frozen=True)
class WaitPolicy:
    """How long to wait for the holder, and whom to tell that one waits."""

    seconds: float = 0.0
    tell: Callable[[str], object] = log.warning


NO_WAIT = WaitPolicy()


@dataclass(frozen=True)
class Lease:
    """The right to write, as long as nobody has taken it over."""

    file: SoftFileLease
    token: str

    @property
    def is_held(self) -> bool:
        owner = self.file.owner
        return owner is not None and owner.token == self.token

    def check(self) -> None:
        """Raise RefusalError where another has taken the lease over: what was begun under it must not become final."""
        if self.is_held:
            return
        time.sleep(SWAP_SECONDS)
        if not self.is_held:
            silent = f"this run gave no sign of life for {LEASE_SECONDS:.0f} s and another has taken its place"
            raise UserError(f"{silent}: nothing more of it is kept; the next run looks at the data anew")


@contextmanager
def acquire_lease(folder: Path, what: str = "", wait: WaitPolicy = NO_WAIT) -> Iterator[Lease]:
    """Hold the lease of a project whose state is in `folder`.

    Raises RefusalError, with who holds it since when, where another does, at once or when the waiting is over; and
    where the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = _file(folder)
        _acquire(file, folder, wait)
        lease = _claim(file, folder, what)
    except OSError as problem:
        why = f"{folder} cannot be written to ({summarize_error(problem)})"
        raise UserError(f"{why}: free space there, or mend its permissions") from problem
    try:
        yield lease
    finally:
        if lease.is_held:
            _note(folder).unlink(missing_ok=True)
        file.release()


def describe_holder(folder: Path) -> str:
    """Who holds the lease, in words; empty where nobody does."""
    owner = _file(folder).owner
    if owner is None:
        return ""
    where = f"process {owner.pid} on {owner.hostname.partition('?')[0]}"
    try:
        writer = LeaseHolder.read(_note(folder))
    except UserError:
        return where
    return f"{writer.what}, {where}, since {writer.since}" if writer.token == owner.token else where


def _file(folder: Path) -> SoftFileLease:
    # Of one process, two threads may both want it, and steps ask from threads of their own.
    return SoftFileLease(
        folder / "writer.lock",
        lease_duration=LEASE_SECONDS,
        heartbeat_interval=BEAT_SECONDS,
        thread_local=False,
        poll_interval=POLL_SECONDS,
    )


def _acquire(file: SoftFileLease, folder: Path, wait: WaitPolicy) -> None:
    try:
        file.acquire(timeout=0)
        return
    except Timeout:
        who = describe_holder(folder) or "another"
    except LeaseSettingsMismatch as problem:
        raise UserError(f"another version of Ragtide is at work in {folder.parent}: wait for it") from problem
    try:
        if wait.seconds > 0:
            wait.tell(f"waits for {who}")
            file.acquire(timeout=wait.seconds)
        else:
            _watch(file, who, wait)
    except Timeout as problem:
        busy = f"another run is at work in {folder.parent}: wait for it, or see what it does with `ragtide history`"
        raise UserError(f"{busy} ({who})") from problem


def _watch(file: SoftFileLease, who: str, wait: WaitPolicy) -> None:
    """Take a lease whose owner seems to be gone, by clocks that may have jumped; the first sign of life ends it."""
    last = _last_beat(file)
    silent_seconds = time.time() - last
    if silent_seconds < LEASE_SECONDS:
        raise Timeout(str(file.lock_file))
    wait.tell(f"no sign of life for {silent_seconds:.0f} s from {who}: watching it for {LEASE_SECONDS:.0f} s")
    file.acquire(timeout=LEASE_SECONDS + 2 * POLL_SECONDS, cancel_check=lambda: _last_beat(file) != last)


def _last_beat(file: SoftFileLease) -> float:
    """When the owner last gave a sign of life, by the clock of whoever keeps the file; now where there is none."""
    try:
        return Path(file.lock_file).stat().st_mtime
    except OSError:
        return time.time()


def _claim(file: SoftFileLease, folder: Path, what: str) -> Lease:
    """The lease that was acquired, with a note of who holds it: who cannot write that can write nothing else."""
    token = str(file.token)
    since = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        LeaseHolder(token=token, what=what or _command(), since=since).write(_note(folder))
    except OSError:
        file.release()
        raise
    return Lease(file, token)


def _note(folder: Path) -> Path:
    return folder / "writer.json"


def _command() -> str:
    """The program and its command, and no more: arguments may hold what is nobody's business."""
    return " ".join([Path(sys.argv[0] or "python").name, *sys.argv[1:2]])
