"""Single-writer lease with heartbeat and takeover of dead owners (invariant single-writer, docs/invariants.md).

The lease is filelock's: a file that names its owner, and whose modification time the owner updates while it is alive.
The lease of a dead process is taken over at once; that of a stopped one, or of one on another machine, after the
waiting process has seen no heartbeat for LEASE_SECONDS of its own monotonic clock. A clock that jumps costs nobody the
lease. Nothing stops an owner that lost its lease, so it calls `Lease.check` before it makes anything final
(docs/decisions/0017).
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
from ragtide.pipelines.records.base import Record, make_folder

log = logging.getLogger(__name__)
LEASE_SECONDS = 90.0
BEAT_SECONDS = 15.0
POLL_SECONDS = 0.5
# Delay before a missing or foreign file is checked again: a takeover replaces the file for a moment.
SWAP_SECONDS = 0.2


class LeaseHolder(Record):
    """The holder of the lease: its token, the operation, and the start time (ISO 8601, UTC)."""

    token: str
    what: str
    since: str


@dataclass(frozen=True)
class WaitPolicy:
    """How long to wait for the holder, and who receives the message that this process waits."""

    seconds: float = 0.0
    notify: Callable[[str], object] = log.warning


NO_WAIT = WaitPolicy()


@dataclass(frozen=True)
class Lease:
    """The exclusive right to write, until another process takes it over."""

    file: SoftFileLease
    token: str

    @property
    def is_held(self) -> bool:
        """Whether this process still owns the lease."""
        owner = self.file.owner
        return owner is not None and owner.token == self.token

    def check(self) -> None:
        """Raise UserError if another process has taken the lease over: unfinished work must then not become final."""
        if self.is_held:
            return
        time.sleep(SWAP_SECONDS)
        if not self.is_held:
            message = f"this run sent no heartbeat for {LEASE_SECONDS:.0f} s and another run has taken over its lease"
            raise UserError(f"{message}: it stops without publishing; the next run starts from the current data")


@contextmanager
def acquire_lease(folder: Path, what: str = "", wait: WaitPolicy = NO_WAIT) -> Iterator[Lease]:
    """Hold the lease of a project whose state is in `folder`.

    Raises UserError naming the holder and its start time if another process holds the lease until the wait is over,
    and if the folder cannot be written to.
    """
    try:
        make_folder(folder)
        file = _lease_file(folder)
        _acquire(file, folder, wait)
        lease = _claim(file, folder, what)
    except OSError as problem:
        message = f"{folder} cannot be written to ({summarize_error(problem)})"
        raise UserError(f"{message}: free disk space, or fix the permissions") from problem
    try:
        yield lease
    finally:
        if lease.is_held:
            _holder_file(folder).unlink(missing_ok=True)
        file.release()


def describe_holder(folder: Path) -> str:
    """A description of the lease's holder; empty if it is free."""
    owner = _lease_file(folder).owner
    if owner is None:
        return ""
    process = f"process {owner.pid} on {owner.hostname.partition('?')[0]}"
    try:
        holder = LeaseHolder.read(_holder_file(folder))
    except UserError:
        return process
    return f"{holder.what}, {process}, since {holder.since}" if holder.token == owner.token else process


def _lease_file(folder: Path) -> SoftFileLease:
    # Not thread-local: two threads of a process exclude each other, and steps call `check` from their own threads.
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
        holder = describe_holder(folder) or "another process"
    except LeaseSettingsMismatch as problem:
        raise UserError(f"another version of Ragtide is at work in {folder.parent}: wait until it is done") from problem
    try:
        if wait.seconds > 0:
            wait.notify(f"this run waits for {holder}")
            file.acquire(timeout=wait.seconds)
        else:
            _take_over_silent(file, holder, wait)
    except Timeout as problem:
        message = f"another run is at work in {folder.parent}: wait until it is done, or see `ragtide history`"
        raise UserError(f"{message} ({holder})") from problem


def _take_over_silent(file: SoftFileLease, holder: str, wait: WaitPolicy) -> None:
    """Take over a lease without recent heartbeats after watching it, since clocks may have jumped.

    Raises Timeout if the last heartbeat is recent, or at the next one.
    """
    last = _last_beat(file)
    silent_seconds = time.time() - last
    if silent_seconds < LEASE_SECONDS:
        raise Timeout(str(file.lock_file))
    wait.notify(f"no heartbeat for {silent_seconds:.0f} s from {holder}: watching it for {LEASE_SECONDS:.0f} s")
    file.acquire(timeout=LEASE_SECONDS + 2 * POLL_SECONDS, cancel_check=lambda: _last_beat(file) != last)


def _last_beat(file: SoftFileLease) -> float:
    """The time of the owner's last heartbeat, by the clock of the file system; now if there is no file."""
    try:
        return Path(file.lock_file).stat().st_mtime
    except OSError:
        return time.time()


def _claim(file: SoftFileLease, folder: Path, what: str) -> Lease:
    """The acquired lease, with its holder written to a file; if that fails, the lease is freed."""
    token = str(file.token)
    since = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        LeaseHolder(token=token, what=what or _command(), since=since).write(_holder_file(folder))
    except OSError:
        file.release()
        raise
    return Lease(file, token)


def _holder_file(folder: Path) -> Path:
    return folder / "writer.json"


def _command() -> str:
    """The program and its subcommand, without arguments, which may be confidential."""
    return " ".join([Path(sys.argv[0] or "python").name, *sys.argv[1:2]])
