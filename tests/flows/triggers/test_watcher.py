"""Tests of the watcher: one event per batch of changes, despite server errors and replaced folders."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from watchfiles import Change

from ragtide.flows.triggers import watcher
from ragtide.flows.triggers.watcher import Batch, DataFilter, Heartbeat, Watcher
from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.errors import UnavailableError, UserError
from ragtide.pipelines.params import TriggerParams
from ragtide.pipelines.workspace import Workspace
from tests.servers import eventually

QUICK = {"quiet_seconds": 0.3, "at_most_seconds": 5}


class Server:
    """Replaces `send_event`: keeps the revisions sent, or fails while `is_down`."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.calls = 0
        self.is_down = False

    def __call__(self, project: Path, source: str) -> str:
        assert source == "watcher"
        self.calls += 1
        if self.is_down:
            raise UnavailableError("no Prefect server answers")
        revision = take_snapshot(Workspace.open(project)).id
        self.sent.append(revision)
        return revision


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    monkeypatch.setattr(watcher, "send_event", server)
    monkeypatch.setattr(watcher, "LONGEST_RETRY_SECONDS", 0.1)
    return server


@pytest.fixture
def project(make_project: Callable[..., Path]) -> Path:
    root = make_project(triggers=QUICK)
    write(root, "a.md", "# A\n\nOne.")
    return root


def write(root: Path, name: str, text: str) -> None:
    path = root / "data" / "kb" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def current_revision(root: Path) -> str:
    return take_snapshot(Workspace.open(root)).id


def beat(root: Path) -> Heartbeat:
    return Heartbeat.read(root / ".ragtide" / "services" / "watcher.json")


@contextmanager
def watching(root: Path, server: Server) -> Iterator[None]:
    """A running watcher that has reported the changes made before its start."""
    file = root / ".ragtide" / "services" / "watcher.json"
    stop = threading.Event()
    watcher = Watcher(root, stop)
    thread = threading.Thread(target=watcher.run)
    thread.start()
    try:
        assert eventually(lambda: file.exists() and (server.calls or beat(root).sent))
        # Later changes are compared with the first scan of the folders.
        assert not stop.wait(1)
        yield
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()


def test_a_batch_of_changes_is_one_event(project: Path, server: Server) -> None:
    with watching(project, server):
        for number in range(50):
            write(project, f"page-{number}.md", "# New")
        assert eventually(lambda: len(server.sent) == 2)
        assert server.sent[-1] == current_revision(project)
    assert len(server.sent) == 2


def test_changes_made_while_no_watcher_ran_are_sent_once_at_the_start(project: Path, server: Server) -> None:
    with watching(project, server):
        pass
    assert server.sent == [current_revision(project)]
    with watching(project, server):
        pass
    assert len(server.sent) == 1
    write(project, "b.md", "# B")
    with watching(project, server):
        assert eventually(lambda: len(server.sent) == 2)
    assert server.sent[-1] == current_revision(project)


def test_a_batch_is_kept_while_the_server_is_down(project: Path, server: Server) -> None:
    with watching(project, server):
        server.is_down = True
        write(project, "b.md", "# B")
        assert eventually(lambda: server.calls >= 4)
        assert beat(project).problem == "no Prefect server answers"
        assert len(server.sent) == 1
        server.is_down = False
        assert eventually(lambda: len(server.sent) == 2)
        assert eventually(lambda: beat(project).problem is None)
    assert server.sent[-1] == current_revision(project) == beat(project).sent


def test_a_watcher_that_cannot_deliver_can_be_stopped(project: Path, server: Server) -> None:
    server.is_down = True
    with watching(project, server):
        assert eventually(lambda: server.calls >= 1)
    assert server.sent == []


def test_a_folder_that_is_deleted_and_created_again_is_still_watched(project: Path, server: Server) -> None:
    with watching(project, server):
        shutil.rmtree(project / "data" / "kb")
        assert eventually(lambda: beat(project).problem is not None)
        write(project, "b.md", "# B")
        assert eventually(lambda: len(server.sent) == 2)
        write(project, "c.md", "# C")
        assert eventually(lambda: len(server.sent) == 3)
    assert server.sent[-1] == current_revision(project)


def test_changed_settings_are_reported_and_used(project: Path, server: Server) -> None:
    params = project / "params.yaml"
    with watching(project, server):
        params.write_text(params.read_text(encoding="utf-8").replace("max_words: 160", "max_words: 80"))
        assert eventually(lambda: len(server.sent) == 2)
        good = params.read_text(encoding="utf-8")
        params.write_text("nonsense: [", encoding="utf-8")
        assert eventually(lambda: "params.yaml" in (beat(project).problem or ""))
        params.write_text(good, encoding="utf-8")
        assert eventually(lambda: beat(project).problem is None)


@pytest.mark.parametrize("name", ["a.md.tmp", ".a.md.swp", "a.md~", "sub/.~lock.a.odt#", "drafts/a.md", ".git/x"])
def test_files_ignored_by_dvc_and_temporary_files_are_filtered(project: Path, name: str) -> None:
    (project / ".dvcignore").write_text("drafts/\n", encoding="utf-8")
    data_filter = DataFilter(project.resolve())
    folder = project.resolve() / "data" / "kb"
    assert not data_filter(Change.added, str(folder / name))
    assert data_filter(Change.added, str(folder / "a.md"))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_batch_waits_for_a_quiet_period_up_to_a_limit() -> None:
    clock = Clock()
    batch = Batch(TriggerParams(quiet_seconds=3, at_most_seconds=10), clock)
    assert not batch.is_due
    batch.add({"a"})
    assert not batch.is_due
    clock.now = 3.0
    assert batch.is_due
    for second in range(4, 11):
        clock.now = second
        batch.add({"a"})
        assert batch.is_due is (second >= 10)


def test_a_folder_without_a_project_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"params\.yaml"):
        Watcher(tmp_path, threading.Event())
