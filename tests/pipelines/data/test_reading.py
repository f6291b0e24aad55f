"""Tests of the processes that read documents: limits, crashes, notes of attempts, and equality with direct reading."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.data.documents import INTERRUPTED, DocumentReader
from ragtide.pipelines.data.formats.converter import FORMATS, convert_document
from ragtide.pipelines.data.formats.errors import DocumentError
from ragtide.pipelines.data.reading import pool as pool_module
from ragtide.pipelines.data.reading.attempts import AttemptNotes, interrupted_attempts, noted_attempts
from ragtide.pipelines.data.reading.pool import ReadingPool, ReadText, _ending
from ragtide.pipelines.data.reading.process import ReadingTask
from ragtide.pipelines.data.reading.sections import Piece, cut_text
from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.records.data import Quarantine
from ragtide.pipelines.workspace import Workspace
from tests.factories import workspace, write
from tests.pipelines.data.formats.samples import sample

# Takes a second or more of computing time to read.
LARGE = "[" + "1," * 2_400_000 + "1]"
ATTEMPT = ("a.md", "digest", "conditions")


@pytest.fixture
def pool() -> ReadingPool:
    return ReadingPool(2)


def waiting_file(folder: Path) -> Path:
    """A named pipe: reading from it waits for ever, and computes nothing."""
    os.mkfifo(folder / "waits.md")
    return folder / "waits.md"


def task(name: Path, **fields: Any) -> ReadingTask:
    """A task with generous limits, but for `fields`."""
    import hashlib

    digest = hashlib.md5(name.read_bytes(), usedforsecurity=False).hexdigest() if name.is_file() else ""
    limits = {"seconds": 60.0, "memory_mb": 1000, "max_words": 160, "max_characters": 10_000_000, "cached": None}
    return ReadingTask(**{"path": name.name, "file": str(name), "digest": digest, **limits, **fields})


def read(pool: ReadingPool, asked: ReadingTask) -> ReadText:
    return pool.submit(asked, lambda: None).result()


def refusal(pool: ReadingPool, asked: ReadingTask) -> str:
    with pytest.raises(DocumentError) as problem:
        read(pool, asked)
    return str(problem.value)


# --- limits --------------------------------------------------------------------------------------------------------


def test_a_document_over_the_deadline_is_refused_and_the_next_is_read(pool: ReadingPool, tmp_path: Path) -> None:
    large, good = write(tmp_path / "bad.json", LARGE), write(tmp_path / "good.md", "# A\n\nText.")
    assert "data.document_seconds = 0.1" in refusal(pool, task(large, seconds=0.1))
    assert read(pool, task(good)).pieces == (Piece("A", "Text."),)


def test_a_process_that_waits_and_computes_nothing_is_killed_by_the_clock(
    pool: ReadingPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "CLOCK_FACTOR", 1)
    monkeypatch.setattr(pool_module, "CLOCK_SECONDS", 0)
    good = write(tmp_path / "good.md", "Text.")
    assert refusal(pool, task(waiting_file(tmp_path), seconds=1.0)) == "took more than 1 s"
    assert read(pool, task(good)).text == "Text."


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of memory is the kernel's")
def test_a_document_over_the_memory_limit_is_refused_and_the_next_is_read(pool: ReadingPool, tmp_path: Path) -> None:
    numbers = write(tmp_path / "bad.json", "[" + '{"a":1},' * 600_000 + "1]")
    good = write(tmp_path / "good.md", "Text.")
    assert "data.document_memory_mb = 50" in refusal(pool, task(numbers, memory_mb=50))
    assert read(pool, task(good)).text == "Text."


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("headings.md", "# " + "word " * 2000 + "\n\n" + "text\n\n# a\n\n## b\n\n" * 10),
        ("table.md", "| " + "a " * 4000 + "|\n|---|\n" + "| b |\n" * 400),
        ("text.md", "word " * 30_000),
    ],
)
def test_a_document_that_makes_too_much_text_is_refused(
    name: str, content: str, pool: ReadingPool, tmp_path: Path
) -> None:
    file = write(tmp_path / name, content)
    limit = len(content) + 1000
    assert f"more than {limit} characters" in refusal(pool, task(file, max_characters=limit))


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (-signal.SIGPROF, "data.document_seconds = 60"),
        (-signal.SIGKILL, "memory is short"),
        (-signal.SIGSEGV, "SIGSEGV"),
        (3, "exit code 3"),
    ],
)
def test_the_end_of_a_process_has_a_reason(code: int, text: str, tmp_path: Path) -> None:
    assert text in _ending(code, task(write(tmp_path / "a.md", "x")))


def started(pool: ReadingPool, asked: ReadingTask) -> tuple[Future[ReadText], int]:
    """A call whose process is reading, and the id of that process."""
    future = pool.submit(asked, lambda: None)
    wait_for(lambda: future in pool._reading)
    return future, pool._reading[future]._process.pid


def wait_for(condition: Callable[[], object]) -> None:
    while not condition():
        time.sleep(0.01)


@pytest.mark.parametrize("cause", [signal.SIGSEGV, signal.SIGKILL])
def test_a_process_that_dies_is_the_fault_of_its_document(
    cause: signal.Signals, pool: ReadingPool, tmp_path: Path
) -> None:
    good = write(tmp_path / "good.md", "Text.")
    future, process = started(pool, task(waiting_file(tmp_path)))
    os.kill(process, cause)
    with pytest.raises(DocumentError):
        future.result()
    assert read(pool, task(good)).text == "Text."


def test_abandoned_calls_end_at_once(pool: ReadingPool, tmp_path: Path) -> None:
    waiting = waiting_file(tmp_path)
    calls = [pool.submit(task(waiting, seconds=9999.0), lambda: None) for _ in range(5)]
    wait_for(lambda: len(pool._reading) == 2)
    pool.abandon(calls)
    wait_for(lambda: all(call.done() for call in calls))
    assert sum(call.cancelled() for call in calls) == 3


def test_a_file_that_changed_is_an_error_of_the_user(pool: ReadingPool, tmp_path: Path) -> None:
    file = write(tmp_path / "a.md", "Text.")
    with pytest.raises(UserError, match="changed while it was being read"):
        read(pool, task(file, digest="0" * 32))


def test_processes_start_when_they_are_needed_and_end_when_they_are_idle(
    pool: ReadingPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "IDLE_SECONDS", 0.01)
    file = write(tmp_path / "a.md", "Text.")
    assert pool._threads == 0
    assert read(pool, task(file)).text == "Text."
    wait_for(lambda: pool._threads == 0)
    assert read(pool, task(file)).text == "Text."


def test_a_project_file_named_like_a_module_is_not_imported(
    pool: ReadingPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "json.py", "raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    assert read(pool, task(write(tmp_path / "a.md", "Text."))).text == "Text."


@pytest.mark.parametrize("ending", sorted(FORMATS))
def test_every_format_reads_as_it_does_in_this_process(ending: str, tmp_path: Path) -> None:
    file = tmp_path / f"page{ending}"
    file.write_bytes(sample(ending))
    read_here = convert_document(file.name, file.read_bytes())
    got = read(pool_module.reading_pool(), task(file))
    assert (got.text, got.pieces) == (read_here, tuple(cut_text(file.name, read_here, 160)))


MARKDOWN = st.lists(
    st.sampled_from(
        ["# A\n", "## B\n", "text ", "word. " * 40, "\n", "\n\n", "|a|b|\n|-|-|\n", "- x\n", "é\u2028", "---\n"]
    )
).map("".join)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(MARKDOWN.filter(str.strip), st.sampled_from([".md", ".rst", ".txt"]), st.integers(20, 200))
def test_reading_in_a_process_equals_reading_here(text: str, ending: str, max_words: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = write(Path(folder) / f"page{ending}", text)
        got = read(pool_module.reading_pool(), task(file, max_words=max_words))
    assert (got.text, got.pieces) == (text, tuple(cut_text(file.name, text, max_words)))


# --- notes of attempts ---------------------------------------------------------------------------------------------


def test_notes_of_a_living_reader_are_not_interrupted_attempts(tmp_path: Path) -> None:
    with noted_attempts(tmp_path) as notes:
        notes.start(ATTEMPT)
        assert len(list(tmp_path.iterdir())) == 1
        assert interrupted_attempts(tmp_path).counts == {}
    assert list(tmp_path.iterdir()) == []
    # A thread that is late notes nothing.
    notes.start(ATTEMPT)
    assert list(tmp_path.iterdir()) == []


def leave_notes(folder: Path, *lines: list[str], end: str = "") -> None:
    """What a killed reader leaves."""
    text = "".join(json.dumps(line) + "\n" for line in lines)
    write(folder / f"{len(list(folder.glob('*')))}.jsonl", text + end)


def test_an_attempt_that_did_not_finish_counts_once_per_reader(tmp_path: Path) -> None:
    other = ("b.md", "digest", "conditions")
    for _ in range(2):
        leave_notes(tmp_path, ["start", *ATTEMPT], ["start", *other], ["finish", *other], end='["start", "c')
    interrupted = interrupted_attempts(tmp_path)
    assert interrupted.counts == {ATTEMPT: 2}
    interrupted.forget()
    assert list(tmp_path.iterdir()) == []


def library_of(space: Workspace) -> DocumentReader:
    return DocumentReader(space, take_snapshot(space))


def test_an_interrupted_attempt_counts_until_the_document_is_read(tmp_path: Path) -> None:
    space = workspace(tmp_path, data={"max_attempts": 3})
    write(space.kb / "a.md", "Text.")
    library = library_of(space)
    leave_notes(space.reading, ["start", *library._attempt("a.md")])
    [quarantined] = library_of(space).quarantined
    assert (quarantined.document, quarantined.attempts, quarantined.reason) == ("a.md", 1, INTERRUPTED)
    library = library_of(space)
    assert dict(library.read(["a.md"]))["a.md"]
    library.keep()
    assert (library.quarantined, list(space.reading.iterdir())) == ((), [])


def test_a_document_that_killed_every_run_is_no_longer_read(tmp_path: Path) -> None:
    space = workspace(tmp_path, data={"max_attempts": 3})
    write(space.kb / "a.md", "Text.")
    for _ in range(3):
        leave_notes(space.reading, ["start", *library_of(space)._attempt("a.md")])
    library = library_of(space)
    assert library.due == {}
    library.keep()
    assert [document.attempts for document in Quarantine.read(space.quarantine_file).documents] == [3]
    assert list(space.reading.iterdir()) == []
    assert library_of(space).due == {}
    # Other content, or other limits, are tried again.
    longer = workspace(tmp_path, data={"max_attempts": 3, "document_seconds": 999})
    assert set(library_of(longer).due) == {"a.md"}
    write(space.kb / "a.md", "Other text.")
    assert set(library_of(space).due) == {"a.md"}


def test_a_document_over_the_deadline_is_quarantined_and_the_others_are_read(tmp_path: Path) -> None:
    space = workspace(tmp_path, data={"max_attempts": 2, "document_seconds": 0.1})
    write(space.kb / "bad.json", LARGE)
    write(space.kb / "good.md", "Text.")
    for attempts in (1, 2, 2):
        library = library_of(space)
        documents = dict(library.read(["bad.json", "good.md"]))
        library.keep()
        [quarantined] = library.quarantined
        assert documents["bad.json"] is None
        assert documents["good.md"] is not None
        assert (quarantined.attempts, "document_seconds" in quarantined.reason) == (attempts, True)
    assert list(space.reading.iterdir()) == []


def test_an_abandoned_reader_leaves_no_notes_and_blames_no_document(tmp_path: Path) -> None:
    space = workspace(tmp_path)
    for name in ("good.md", "waits.md"):
        write(space.kb / name, "Text.")
    library = library_of(space)
    (space.kb / "waits.md").unlink()
    waiting_file(space.kb)
    documents: Iterator[Any] = library.read(["good.md", *["waits.md"] * 300])
    assert next(documents)[0] == "good.md"
    documents.close()
    assert (library.quarantined, list(space.reading.iterdir())) == ((), [])


KILLED = """
import os, sys
from pathlib import Path
from ragtide.pipelines.data.documents import DocumentReader
from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.workspace import Workspace
workspace = Workspace.open(Path(sys.argv[1]))
library = DocumentReader(workspace, take_snapshot(workspace))
(workspace.kb / "waits.md").unlink()
os.mkfifo(workspace.kb / "waits.md")
list(library.read(["waits.md"]))
"""


def child_of(process: int) -> int | None:
    children = Path(f"/proc/{process}/task").glob("*/children")
    found = [int(child) for path in children for child in path.read_text(encoding="ascii").split()]
    return found[0] if found else None


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize("cause", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_leaves_no_process_and_its_document_has_an_attempt(cause: signal.Signals, tmp_path: Path) -> None:
    space = workspace(tmp_path)
    write(space.root / "params.yaml", "")
    page = write(space.kb / "waits.md", "Text.")
    with subprocess.Popen([sys.executable, "-c", KILLED, str(space.root)]) as run:
        wait_for(lambda: [file for file in space.reading.glob("*.jsonl") if file.stat().st_size])
        child = child_of(run.pid)
        assert child
        run.send_signal(cause)
        run.wait()
    wait_for(lambda: not is_running(child))
    page.unlink()
    write(page, "Text.")
    [quarantined] = library_of(space).quarantined
    assert (quarantined.document, quarantined.attempts) == ("waits.md", 1)


def test_notes_are_written_before_the_process_begins(pool: ReadingPool, tmp_path: Path) -> None:
    order: list[str] = []
    notes = AttemptNotes(tmp_path / "notes")

    def note() -> None:
        notes.start(ATTEMPT)
        order.append("noted")

    file = write(tmp_path / "a.md", "Text.")
    pool.submit(task(file), note).add_done_callback(lambda _: order.append("read"))
    wait_for(lambda: "read" in order)
    assert order == ["noted", "read"]
