"""File watcher: sends one event for each batch of changes in the data folders.

The operating system reports the changes (inotify and its equivalents, through watchfiles). On a network drive, which
reports none, set WATCHFILES_FORCE_POLLING=1.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import tenacity
from watchfiles import Change, DefaultFilter, watch

from ragtide.flows.services.settings import heartbeat_file
from ragtide.flows.terminal import SafeConsole
from ragtide.flows.triggers.events import send_event
from ragtide.pipelines.data.ignore import ignore_rules
from ragtide.pipelines.errors import UnavailableError, UserError
from ragtide.pipelines.params import TriggerParams
from ragtide.pipelines.planning.missed_runs import check_missed_run
from ragtide.pipelines.records.base import Record
from ragtide.pipelines.registry.releases import Registry
from ragtide.pipelines.safe_text import escape_controls
from ragtide.pipelines.workspace import Workspace

SOURCE = "watcher"
TICK_MS = 500
LONGEST_RETRY_SECONDS = 30
console = SafeConsole(stderr=True)


class Heartbeat(Record):
    """The watcher's state for `ragtide up` and a restarted watcher: the last heartbeat and the last revision sent.

    A heartbeat older than two minutes means that the watcher hangs or has ended.
    """

    at: str
    sent: str | None = None
    sent_at: str | None = None
    pending_files: int = 0
    problem: str | None = None


@dataclass
class Batch:
    """The changes since the last event: due after a quiet period, or once the first change has waited for too long."""

    params: TriggerParams
    clock: Callable[[], float] = time.monotonic
    paths: set[str] = field(default_factory=set)
    first: float = 0.0
    last: float = 0.0

    def add(self, paths: set[str]) -> None:
        self.last = self.clock()
        self.first = self.first if self.paths else self.last
        self.paths |= paths

    @property
    def is_due(self) -> bool:
        now = self.clock()
        is_quiet = now - self.last >= self.params.quiet_seconds
        return bool(self.paths) and (is_quiet or now - self.first >= self.params.at_most_seconds)


class DataFilter(DefaultFilter):
    """Ignores what DVC ignores, and temporary files that programs write beside the target file."""

    ignore_entity_patterns = (*DefaultFilter.ignore_entity_patterns, r"\.tmp$", r"\.part$", r"\.crdownload$", r"^\.~")

    def __init__(self, root: Path) -> None:
        super().__init__(ignore_dirs=(".git", ".hg", ".dvc"))
        self._root = root
        self._rules = ignore_rules(root)

    def __call__(self, change: Change, path: str) -> bool:
        with suppress(ValueError):
            if self._rules.match_file(Path(path).relative_to(self._root).as_posix()):
                return False
        return super().__call__(change, path)


class Watcher:
    """Watches one project until `stop` is set."""

    def __init__(self, project: Path, stop: Event) -> None:
        self._workspace = Workspace.open(project)
        self._stop = stop
        self._file = heartbeat_file(self._workspace)
        self._beat = Heartbeat(at=_now())
        with suppress(UserError):
            self._beat = Heartbeat.read(self._file)

    def run(self) -> None:
        """Send an event for changes made before the start, then one for each batch of changes."""
        self._note(problem=None, pending_files=0)
        batch, is_first_pass = Batch(self._workspace.params.triggers), True
        for paths in self._changes():
            # The folders are being watched by now, so no change is lost between this check and the next one.
            if is_first_pass and self._has_missed_changes():
                self._deliver()
            is_first_pass = False
            if paths:
                batch.add(paths)
            if batch.is_due:
                self._note(pending_files=len(batch.paths))
                self._deliver()
                batch = Batch(self._workspace.params.triggers)
            self._note(pending_files=len(batch.paths))

    def _has_missed_changes(self) -> bool:
        try:
            check = check_missed_run(self._workspace, Registry(self._workspace).history(), datetime.now(UTC))
        except UnavailableError:
            return True
        except UserError as problem:
            self._report(str(problem))
            return False
        return check.is_due and check.revision != self._beat.sent

    def _changes(self) -> Iterator[set[str]]:
        """The paths that changed, twice a second; usually none.

        A folder that is deleted and created again is a different one to the operating system, so watching restarts.
        """
        while not self._stop.is_set():
            before = _footprint(self._workspace)
            for paths in self._watch_folders():
                yield paths
                if _footprint(self._workspace) != before:
                    self._reopen()
                    yield {"the folders themselves, or the settings"}
                    break

    def _watch_folders(self) -> Iterator[set[str]]:
        folders = [folder for folder in self._workspace.data_folders.values() if folder.is_dir()]
        if not folders:
            yield set()
            self._stop.wait(TICK_MS / 1000)
            return
        for changes in watch(
            *folders,
            watch_filter=DataFilter(self._workspace.root),
            debounce=TICK_MS,
            step=TICK_MS // 5,
            rust_timeout=TICK_MS,
            yield_on_timeout=True,
            stop_event=self._stop,
        ):
            yield {path for _, path in changes}

    def _reopen(self) -> None:
        """Read params.yaml again; where it cannot be read, report that and keep the current settings."""
        try:
            self._workspace = Workspace.open(self._workspace.root)
        except UserError as problem:
            self._report(str(problem))

    def _deliver(self) -> None:
        """Send an event, retrying until the server accepts it; later changes make a batch of their own."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(UnavailableError),
            wait=tenacity.wait_random_exponential(max=LONGEST_RETRY_SECONDS),
            sleep=tenacity.sleep_using_event(self._stop),
            stop=tenacity.stop_when_event_set(self._stop),
            before_sleep=self._record_retry,
            reraise=True,
        )
        try:
            revision = retrying(send_event, self._workspace.root, SOURCE)
        except UserError as problem:
            self._report(str(problem))
            return
        self._report(f"event sent for data revision {revision}", is_problem=False)
        self._note(sent=revision, sent_at=_now(), problem=None)

    def _record_retry(self, state: tenacity.RetryCallState) -> None:
        problem = str(state.outcome.exception()) if state.outcome else ""
        if problem != self._beat.problem:
            self._report(problem)
        self._note(problem=problem)

    def _report(self, line: str, is_problem: bool = True) -> None:
        console.print(f"ragtide watch: {escape_controls(line)}", markup=False, highlight=False, soft_wrap=True)
        if is_problem:
            self._note(problem=line)

    def _note(self, **changed: str | int | None) -> None:
        """Write the heartbeat: at once where a field changes, else every ten seconds."""
        now = datetime.now(UTC)
        is_new = any(getattr(self._beat, key) != value for key, value in changed.items())
        is_old = (now - datetime.fromisoformat(self._beat.at)).total_seconds() >= 10
        if is_new or is_old or not self._file.exists():
            self._beat = self._beat.model_copy(update={**changed, "at": now.isoformat(timespec="seconds")})
            self._beat.write(self._file)


def _footprint(workspace: Workspace) -> tuple[tuple[int, ...] | None, ...]:
    """The identity of the data folders, and the state of the two settings files, to detect when they are replaced."""
    files = (workspace.root / "params.yaml", workspace.root / ".dvcignore")
    return (
        *(_identity(folder, False) for folder in workspace.data_folders.values()),
        *(_identity(file, True) for file in files),
    )


def _identity(path: Path, with_content: bool) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    content = (status.st_mtime_ns, status.st_size) if with_content else ()
    return (status.st_dev, status.st_ino, *content)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
