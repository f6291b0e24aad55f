"""A child process that does one operation, and at a given point of it kills itself by SIGKILL or stays there.

    python -m tests.crash refresh PROJECT WHEN PLACE [NTH]      the index alone, of a project from `small_project`
    python -m tests.crash publish PROJECT WHEN PLACE [NTH]      a release of the current data, without Prefect
    python -m tests.crash loop PROJECT WHEN PLACE [NTH]         the whole loop
    python -m tests.crash "COMMAND …" PROJECT WHEN PLACE [NTH] [ACT]    a command of ragtide

ACT: `kill` (the default), `stay`, which writes a line and stays in native code, as a long embedding does, or `limit`,
which forbids larger files.
WHEN and PLACE: `before` or `after` one of PLACES, or `within` a glob: as soon as a new file below the index's folder
matches it, which is during a commit.
"""

from __future__ import annotations

import hashlib
import json
import os
import pkgutil
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn
from unittest import mock

from ragtide.pipelines.ports import Vectors, no_progress
from ragtide.pipelines.workspace import Workspace
from tests.factories import HashEmbedder, workspace

ROOT = Path(__file__).parent.parent
# Small, so that a few documents take several windows and a paragraph makes several chunks.
WINDOW = 3
MAX_WORDS = 20
PLACES = {
    "server start": ["prefect.server.api.server:SubprocessASGIServer._run_uvicorn_command"],
    "snapshot": ["ragtide.flows.tasks:record_snapshot"],
    "evidence": ["ragtide.pipelines.planning.plan:measure_answers"],
    "training": ["tests.fakes:CountingTrainer.train"],
    "proof": ["ragtide.pipelines.evaluation.evaluator:Evaluator.scorecard"],
    "window": ["ragtide.pipelines.index.writer:IndexWriter._embed_missing"],
    "vectors": ["ragtide.pipelines.index.vector_cache:VectorCache.put"],
    "commit": [
        "ragtide.pipelines.index.writer:IndexWriter.replace",
        "ragtide.pipelines.index.writer:IndexWriter.merge",
    ],
    "text index": ["ragtide.pipelines.index.maintenance:update_text_index"],
    "note": ["ragtide.pipelines.build:write_index_artifact"],
    "tag": ["ragtide.pipelines.index.table:Index.tag"],
    "description": ["ragtide.pipelines.registry.releases:Registry.record_release"],
    "pointer": ["ragtide.pipelines.registry.releases:Registry.set_live"],
    "release tag": ["mlflow.tracking:MlflowClient.set_model_version_tag"],
    "outcome": ["ragtide.pipelines.registry.runs:RunLog.tags"],
    "conclusion": ["ragtide.flows.tasks:conclude"],
    "compaction": ["ragtide.pipelines.index.maintenance:_compact_files"],
    "pruning": ["ragtide.pipelines.index.maintenance:_delete_old_versions"],
    "deletion": ["ragtide.pipelines.index.maintenance:remove_paths"],
    "untag": ["ragtide.pipelines.index.table:Index.untag"],
    "download": ["ragtide.pipelines.registry.releases:Registry.fetch_adapter"],
}
Act = Callable[[], None]


@dataclass(frozen=True)
class Point:
    """Where a fault occurs: before or after the nth call of a place, or within a commit that writes a file."""

    when: Literal["before", "after", "within"]
    place: str
    nth: int = 1

    def __str__(self) -> str:
        return " ".join([self.when, self.place, *([str(self.nth)] if self.nth > 1 else [])])


class RecordingEmbedder(HashEmbedder):
    """Records the texts of each call, also in a file if given, to know what a killed process embedded.

    `within` is the tolerance between two vectors of one text.
    """

    within = 1e-6

    def __init__(self, file: Path | None = None) -> None:
        super().__init__()
        self.calls: list[list[str]] = []
        self._file = file

    def embed(self, texts: Sequence[str]) -> Vectors:
        start = len(self.embedded)
        try:
            return super().embed(texts)
        finally:
            self.calls.append(self.embedded[start:])
            if self._file:
                with self._file.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(self.calls[-1]) + "\n")


def small_project(root: Path) -> Workspace:
    """A project with small chunks, no limit on deletions, and maintenance that keeps no old version."""
    blocks = {
        "chunk": {"max_words": MAX_WORDS},
        "deletion_guard": {"max_removed_share": 1.0},
        "maintenance": {"keep_days": 0},
    }
    return workspace(root, **blocks)


@contextmanager
def fault_at(point: Point, act: Act) -> Iterator[None]:
    """Call `act` at that point, inside the context."""
    with ExitStack() as patches:
        for target in PLACES[point.place]:
            owner, _, name = target.replace(":", ".").rpartition(".")
            original = pkgutil.resolve_name(target)
            patches.enter_context(
                mock.patch.object(pkgutil.resolve_name(owner), name, _with_fault(original, point, act))
            )
        yield


def _with_fault(original: Callable[..., Any], point: Point, act: Act) -> Callable[..., Any]:
    calls = iter(range(1, sys.maxsize))

    def call(*arguments: Any, **options: Any) -> Any:
        is_nth = next(calls) == point.nth
        if is_nth and point.when == "before":
            act()
        result = original(*arguments, **options)
        if is_nth and point.when == "after":
            act()
        return result

    return call


def kill_when_written(folder: Path, pattern: str) -> None:
    """Watch a folder from a thread: LanceDB commits in a thread of its own, without the interpreter lock."""
    before = set(folder.glob(pattern))

    def watch() -> None:
        while not set(folder.glob(pattern)) - before:
            pass
        kill()

    threading.Thread(target=watch, daemon=True).start()


def kill() -> None:
    """Kill this process."""
    os.kill(os.getpid(), signal.SIGKILL)


def stay() -> None:
    """Write a line and stay in native code, which holds no interpreter lock and which no signal interrupts."""
    print("staying", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"any", b"any", 2**31 - 1)


def limit() -> None:
    """Allow no file over 1000 bytes from here on, as `ulimit -f` or a service manager does."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def refresh(root: Path) -> None:
    """Refresh the index alone."""
    from ragtide.pipelines.build import build_index_only
    from ragtide.pipelines.data.snapshot import take_snapshot
    from ragtide.pipelines.index import source
    from ragtide.pipelines.models.load import LoadedEmbedder

    source.WINDOW = WINDOW
    project = small_project(root)
    build_index_only(
        project, LoadedEmbedder(RecordingEmbedder(root / "embedded.jsonl")), take_snapshot(project), no_progress
    )


def publish(root: Path) -> None:
    """Release the current data with the live model, without Prefect and without a proof."""
    from ragtide.pipelines.project import Project
    from tests.projects import release_of

    project = Project.open(root, no_progress)
    with project.workspace.write_lock():
        release_of(project, project.registry.live().model)


def loop(root: Path) -> None:
    """Run one cycle of the whole loop."""
    from ragtide.flows.keep_current import keep_current

    keep_current(project=str(root))


def command(line: str, root: Path) -> None:
    """Run a command of ragtide as a user does."""
    from ragtide.flows.cli.main import main as run_command_line

    sys.argv = ["ragtide", *line.split(), "--project", str(root)]
    run_command_line()


def start(what: str, root: Path, point: Point, act: str = "kill", **environment: str) -> subprocess.Popen[str]:
    """Start a child that does something and, at `point`, kills itself or stays there; in a group of its own."""
    arguments = [what, str(root), point.when, point.place, str(point.nth), act]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.crash", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def die(what: str, root: Path, point: Point, **environment: str) -> None:
    """Start a child that dies at `point`, check that it does, and end every process that it started."""
    child = start(what, root, point, **environment)
    try:
        output, _ = child.communicate(timeout=200)
    finally:
        end_group(child.pid)
    assert child.returncode == -signal.SIGKILL, f"the child should have died {point}:\n{output}"


def end_group(leader: int) -> None:
    """Kill every process of a child's group."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


def main(
    what: str, project: str, when: Literal["before", "after", "within"], place: str, nth: str = "1", act: str = "kill"
) -> NoReturn:
    """Do the operation and die or stay; a child that finishes never reached the point."""
    from ragtide.flows.environment import prepare_environment

    root = Path(project)
    prepare_environment(root)
    operation = {"refresh": refresh, "publish": publish, "loop": loop}.get(what, partial(command, what))
    if when == "within":
        kill_when_written(root / ".ragtide/lance", place)
        operation(root)
        # A slow watcher kills after the operation: also a valid kill.
        time.sleep(5)
    else:
        with fault_at(Point(when, place, int(nth)), {"kill": kill, "stay": stay, "limit": limit}[act]):
            operation(root)
    sys.exit("the operation finished without a kill")


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]
