"""Does every batch of changes bring one event, however the server and the folders fare meanwhile?"""

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
    """Takes the place of `send`: keeps what it is sent, or is away for so many calls."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.calls = 0
        self.is_away = False

    def __call__(self, project: Path, source: str) -> str:
        assert source == "watcher"
        self.calls += 1
        if self.is_away:
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


def now(root: Path) -> str:
    return take_snapshot(Workspace.open(root)).id


def beat(root: Path) -> Heartbeat:
    return Heartbeat.read(root / ".ragtide" / "services" / "watcher.json")


@contextmanager
def watching(root: Path, server: Server) -> Iterator[None]:
    """A watcher at work, which has sent what nobody had sent before it came."""
    file = root / ".ragtide" / "services" / "watcher.json"
    stop = threading.Event()
    watcher = Watcher(root, stop)
    thread = threading.Thread(target=watcher.run)
    thread.start()
    try:
        assert eventually(lambda: file.exists() and (server.calls or beat(root).sent))
        # The first look at the folders is what later changes are told from.
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
        assert server.sent[-1] == now(project)
    assert len(server.sent) == 2


def test_what_was_missed_while_nobody_watched_is_sent_once_at_the_start(project: Path, server: Server) -> None:
    with watching(project, server):
        pass
    assert server.sent == [now(project)]
    with watching(project, server):
        pass
    assert len(server.sent) == 1
    write(project, "b.md", "# B")
    with watching(project, server):
        assert eventually(lambda: len(server.sent) == 2)
    assert server.sent[-1] == now(project)


def test_a_batch_is_kept_while_the_server_is_away(project: Path, server: Server) -> None:
    with watching(project, server):
        server.is_away = True
        write(project, "b.md", "# B")
        assert eventually(lambda: server.calls >= 4)
        assert beat(project).problem == "no Prefect server answers"
        assert len(server.sent) == 1
        server.is_away = False
        assert eventually(lambda: len(server.sent) == 2)
        assert eventually(lambda: beat(project).problem is None)
    assert server.sent[-1] == now(project) == beat(project).sent


def test_a_watcher_that_cannot_deliver_ends_when_it_is_told_to(project: Path, server: Server) -> None:
    server.is_away = True
    with watching(project, server):
        assert eventually(lambda: server.calls >= 1)
    assert server.sent == []


def test_a_folder_that_is_removed_and_made_again_is_watched_on(project: Path, server: Server) -> None:
    with watching(project, server):
        shutil.rmtree(project / "data" / "kb")
        assert eventually(lambda: beat(project).problem is not None)
        write(project, "b.md", "# B")
        assert eventually(lambda: len(server.sent) == 2)
        write(project, "c.md", "# C")
        assert eventually(lambda: len(server.sent) == 3)
    assert server.sent[-1] == now(project)


def test_settings_that_change_are_news_and_are_followed(project: Path, server: Server) -> None:
    params = project / "params.yaml"
    with watching(project, server):
        params.write_text(params.read_text(encoding="utf-8").replace("max_words: 160", "max_words: 80"))
        assert eventually(lambda: len(server.sent) == 2)
        good = params.read_text(encoding="utf-8")
        params.write_text("nonsense: [", encoding="utf-8")
        assert eventually(lambda: "is not readable YAML" in (beat(project).problem or ""))
        params.write_text(good, encoding="utf-8")
        assert eventually(lambda: beat(project).problem is None)


@pytest.mark.parametrize("name", ["a.md.tmp", ".a.md.swp", "a.md~", "sub/.~lock.a.odt#", "drafts/a.md", ".git/x"])
def test_what_dvc_leaves_out_and_files_on_their_way_are_no_news(project: Path, name: str) -> None:
    (project / ".dvcignore").write_text("drafts/\n", encoding="utf-8")
    wanted = DataFilter(project.resolve())
    folder = project.resolve() / "data" / "kb"
    assert not wanted(Change.added, str(folder / name))
    assert wanted(Change.added, str(folder / "a.md"))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_batch_waits_for_quiet_but_not_for_ever() -> None:
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


def test_a_project_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"params\.yaml is missing"):
        Watcher(tmp_path, threading.Event())
