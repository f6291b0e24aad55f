"""How does a writer die at a given point of its work? A child that does one thing, and kills itself there by SIGKILL.

    python -m tests.crash refresh PROJECT WHEN PLACE [NTH]    the index alone, of a project that `laboratory` made
    python -m tests.crash loop PROJECT WHEN PLACE [NTH]       the whole loop

WHEN and PLACE: `before` or `after` one of PLACES, or `within` a glob: as soon as a new file that it matches stands
below the index's folder, which is in the midst of a commit.
"""

from __future__ import annotations

import json
import os
import pkgutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn
from unittest import mock

from ragtide.pipelines.ports import Vectors, no_progress
from ragtide.pipelines.workspace import Workspace
from tests.factories import HashEmbedder, workspace

ROOT = Path(__file__).parent.parent
# Small, so that a few documents make several windows and a paragraph more than one chunk.
WINDOW = 3
MAX_WORDS = 20
PLACES = {
    "window": ["ragtide.pipelines.index.table:Index._embed_missing"],
    "vectors": ["ragtide.pipelines.index.vector_cache:VectorCache.put"],
    "commit": ["ragtide.pipelines.index.table:Index._replace", "ragtide.pipelines.index.table:Index._merge"],
    "text index": ["ragtide.pipelines.index.maintenance:update_text_index"],
    "note": ["ragtide.pipelines.build:write_index_artifact"],
    "tag": ["ragtide.pipelines.index.table:Index.tag"],
    "description": ["ragtide.pipelines.registry.releases:Registry.record_release"],
    "pointer": ["ragtide.pipelines.registry.releases:Registry.set_live"],
}
Act = Callable[[], None]


@dataclass(frozen=True)
class Point:
    """Where it happens: before or after the nth call of a place, or within a commit that writes a file."""

    when: Literal["before", "after", "within"]
    place: str
    nth: int = 1

    def __str__(self) -> str:
        return " ".join([self.when, self.place, *([str(self.nth)] if self.nth > 1 else [])])


class Witness(HashEmbedder):
    """Keeps the texts call by call, in a file too where it has one: what a killed process embedded must be known.

    `within` is how far two vectors of one text may lie apart.
    """

    within = 1e-6

    def __init__(self, file: Path | None = None) -> None:
        super().__init__()
        self.calls: list[list[str]] = []
        self._file = file

    def embed(self, texts: Sequence[str]) -> Vectors:
        at = len(self.embedded)
        try:
            return super().embed(texts)
        finally:
            self.calls.append(self.embedded[at:])
            if self._file:
                with self._file.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(self.calls[-1]) + "\n")


def laboratory(root: Path) -> Workspace:
    """A project whose documents are cut small, whose guard lets everything go, and whose upkeep spares nothing."""
    blocks = {
        "chunk": {"max_words": MAX_WORDS},
        "deletion_guard": {"max_removed_share": 1.0},
        "maintenance": {"keep_days": 0},
    }
    return workspace(root, **blocks)


@contextmanager
def struck(point: Point, act: Act) -> Iterator[None]:
    """Inside, `act` is called at that point."""
    with ExitStack() as inside:
        for target in PLACES[point.place]:
            owner, _, name = target.replace(":", ".").rpartition(".")
            whole = pkgutil.resolve_name(target)
            inside.enter_context(mock.patch.object(pkgutil.resolve_name(owner), name, _wrapped(whole, point, act)))
        yield


def _wrapped(whole: Callable[..., Any], point: Point, act: Act) -> Callable[..., Any]:
    calls = iter(range(1, sys.maxsize))

    def call(*arguments: Any, **options: Any) -> Any:
        here = next(calls) == point.nth
        if here and point.when == "before":
            act()
        result = whole(*arguments, **options)
        if here and point.when == "after":
            act()
        return result

    return call


def kill_when_written(folder: Path, pattern: str) -> None:
    """Watch a folder from a thread: LanceDB commits in one of its own, and lets go of the interpreter for it."""
    before = set(folder.glob(pattern))

    def watch() -> None:
        while not set(folder.glob(pattern)) - before:
            pass
        kill()

    threading.Thread(target=watch, daemon=True).start()


def kill() -> None:
    """The end, at once and for real."""
    os.kill(os.getpid(), signal.SIGKILL)


def refresh(root: Path) -> None:
    """Bring the index alone up to the folder."""
    from ragtide.pipelines.build import build_index_only
    from ragtide.pipelines.data.snapshot import take_snapshot
    from ragtide.pipelines.index import table
    from ragtide.pipelines.models.load import LoadedEmbedder

    table.WINDOW = WINDOW
    project = laboratory(root)
    build_index_only(project, LoadedEmbedder(Witness(root / "embedded.jsonl")), take_snapshot(project), no_progress)


def loop(root: Path) -> None:
    """One turn of the whole loop."""
    from ragtide.flows.environment import prepare_environment

    prepare_environment(root)
    from ragtide.flows.keep_current import keep_current

    keep_current(project=str(root))


def die(what: str, root: Path, point: Point, **environment: str) -> None:
    """Start a child that dies at `point`, and see that it does; nothing that it started outlives it."""
    command = [sys.executable, "-m", "tests.crash", what, str(root), point.when, point.place, str(point.nth)]
    child = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = child.communicate(timeout=200)
    finally:
        _end_group(child.pid)
    assert child.returncode == -signal.SIGKILL, f"the child should have died {point}:\n{said}"


def _end_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


def main(what: str, project: str, when: Literal["before", "after", "within"], place: str, nth: str = "1") -> NoReturn:
    """Do it, and die; a child that comes to its end was not where it should have been."""
    do, root = {"refresh": refresh, "loop": loop}[what], Path(project)
    if when == "within":
        kill_when_written(root / ".ragtide/lance", place)
        do(root)
        # A watcher that was slow to see it strikes after the end: a kill all the same.
        time.sleep(5)
    else:
        with struck(Point(when, place, int(nth)), kill):
            do(root)
    sys.exit("came to its end")


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]
