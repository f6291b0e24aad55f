"""Does any argument, file or state that is wrong get one clear line, and leave everything as it was?

The commands are read off the command line itself: a new one, or a new option, is swept with the rest.
"""

from __future__ import annotations

import inspect
import json
import logging
import os
import re
import shutil
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ragtide.flows.cli.main import app
from ragtide.flows.cli.reference import every_command
from ragtide.pipelines.data.snapshot import record_snapshot, take_snapshot
from ragtide.pipelines.planning.plan import make_plan, save_plan
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.release import BuiltModel
from ragtide.pipelines.release.verify import Mismatch
from tests.conftest import write_project
from tests.factories import md5, write
from tests.fakes import SKILLS
from tests.projects import forget_databases, release_of

PAGE = "# Pump\n\n## Pump 1\n\n- End of life: 2027-01-01\n"
GOLDEN = {"question": "When does Pump 1 reach end of life?", "answers": ["2027-01-01"], "docs": ["pump.md"]}


COMMANDS: dict[str, Any] = {entry.words: entry.command for entry in every_command()}
# These say what they did wrong, and no more; 3 waits for an approval, 4 is past a limit, 5 is the gate's no.
CODES = range(6)
# What may change though nothing was done: locks, logs, caches, and Prefect's own folder.
ALOOF = (
    ".ragtide/writer.lock",
    ".ragtide/pointer.lock",
    ".ragtide/mlflow.db.lock",
    ".ragtide/writer.json",
    ".ragtide/logs",
    # A copy of what MLflow has, and what DVC needs for a moment.
    ".ragtide/adapters",
    ".dvc/tmp",
    ".ragtide/answers",
    ".ragtide/prefect",
)
# A turn that fails has versioned the data by then and is written down as failed: the data and the settings stay.
HISTORY = (
    ".ragtide",
    ".dvc",
    ".gitignore",
    "artifacts",
    "data/.gitignore",
    "dvc.lock",
    "data/kb.dvc",
    "data/train.dvc",
    "data/golden.dvc",
)
PREFECTS = re.compile(r"\d\d:\d\d:\d\d\.\d+ \| ")
TURNS = ("run",)

NASTY = {
    "empty": "",
    "spaces": "   ",
    "above": "../../x",
    "absolute": "/etc/passwd",
    "folder": "/",
    "newlines": "a\nb\r\nc",
    "NUL": "a\0b",
    "quotes": "' OR 1=1 --",
    "more quotes": "\"; DROP TABLE runs; `x` '",
    "very long": "x" * 70_000,
    "right to left": "\u202eגדול\u202c",
    "emoji": "🧨\u200d🔥",
    "half a letter": "caf\udce9",
    "markup": "[bold]x[/nope]",
    "negative": "-1",
    "huge": "9" * 40,
    "nan": "nan",
    "zero": "0",
    "glob": "*",
    "dash": "--",
}


@dataclass(frozen=True)
class Ended:
    """How a command came to its end."""

    code: int
    out: str
    err: str
    problem: BaseException | None


class Started(SystemExit):
    """Another program would have taken over here."""


def take_over(*_: object, **__: object) -> None:
    raise Started(0)


def ragtide(*arguments: str) -> Ended:
    result = CliRunner().invoke(app, list(arguments))
    problem = None if isinstance(result.exception, SystemExit) else result.exception
    return Ended(result.exit_code, result.stdout, result.stderr, problem)


def assert_clear(ended: Ended, what: object) -> None:
    """No traceback, a known exit code, and where it is a refusal one line, or the usage."""
    assert ended.problem is None, f"{what}: {ended.problem!r}"
    assert ended.code in CODES, what
    assert "Traceback" not in ended.out + ended.err, what
    if ended.code == 1 and ended.err:
        # A turn that is tried again says so before, in Prefect's log.
        lines = [line for line in ended.err.splitlines() if not PREFECTS.match(line)]
        assert (len(lines), lines[0][:9]) == (1, "ragtide: "), (what, ended.err)
    if ended.code == 2 and ended.err:
        assert "Usage:" in ended.err, (what, ended.err)
    assert ended.code == 0 or ended.out or ended.err, f"{what}: nothing is said"


def tree(root: Path, aloof: tuple[str, ...] = ALOOF) -> dict[str, str]:
    """The files of a folder: name -> digest of the content. An empty folder is nothing."""
    names = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if path.is_file()]
    return {name: md5((root / name).read_bytes().hex()) for name in names if not name.startswith(aloof)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(where the project lies, a copy of it as it was): two releases, a plan, a snapshot, an adapter, history."""
    home = tmp_path_factory.mktemp("bad-input")
    root = write_project(home / "project")
    write(root / "data/kb/pump.md", PAGE)
    write(root / "data/golden/questions.jsonl", json.dumps(GOLDEN) + "\n")
    write(root / "data/train/lines.jsonl", json.dumps({"prompt": "How old is it?", "completion": "Old."}) + "\n")
    record_snapshot(Project.open(root, no_progress).workspace)
    project = Project.open(root, no_progress)
    write(project.workspace.adapters / "a1b2" / SKILLS, json.dumps({"reads": True}))
    model = BuiltModel(
        base="reader-1",
        adapter="a1b2",
        examples=None,
        settings=None,
        trained_on=("d1",),
        documents={"pump.md": md5(PAGE)},
        source_documents=("pump.md",),
    )
    for _ in range(2):
        release_of(project, model)
    write(root / "data/kb/tank.md", PAGE.replace("Pump", "Tank"))
    project = Project.open(root, no_progress)
    save_plan(project, make_plan(project, project.corpus(take_snapshot(project.workspace))))
    shutil.copytree(root, home / "whole", symlinks=True)
    return root, home / "whole"


@pytest.fixture
def fresh(made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """Makes the project as it was; no program can take this one's place, and relative paths stay in the test."""

    def make() -> Path:
        root, whole = made
        forget_databases()
        shutil.rmtree(root)
        shutil.copytree(whole, root, symlinks=True)
        return root

    # A server that is away is asked once: Prefect would ask for half a minute.
    monkeypatch.setenv("PREFECT_CLIENT_MAX_RETRIES", "0")
    monkeypatch.setattr(os, "execve", take_over)
    # Prefect goes on logging to the terminal of an earlier command, which is none any more.
    monkeypatch.setattr(logging, "raiseExceptions", False)
    for lasting in (
        "ragtide.flows.triggers.watcher.Watcher.run",
        "uvicorn.Server.run",
        "ragtide.flows.services.supervisor.ServiceStart.first",
    ):
        monkeypatch.setattr(lasting, take_over)
    here = made[0].parent / "here" / "below"
    here.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(here)
    return make


def parameters(command: Any) -> list[Any]:
    return [one for one in command.params if one.name != "project" and not getattr(one, "is_flag", False)]


def is_argument(one: Any) -> bool:
    return not one.opts[0].startswith("-")


def kinds(command: Any, parameter: str) -> set[Any]:
    """The types that a parameter may be of."""
    kind = typing.get_type_hints(inspect.unwrap(command.callback))[parameter]
    return {kind, *typing.get_args(kind)}


def values(kinds: set[Any], root: Path) -> dict[str, str]:
    """What may be given for a parameter; no path leads out of the test's own folder."""
    if Path not in kinds:
        return NASTY
    write(root.parent / "a file", "")
    own = {"absolute": str(root.parent / "a file"), "folder": str(root), "nowhere": "/proc/nowhere/x", "dash": "a/b/c"}
    return NASTY | own


def line_with(command: Any, chosen: str, value: str, root: Path) -> list[str]:
    """A call of a command with a value for one parameter, and something harmless for what else must be there."""
    options: list[str] = []
    arguments: list[str] = []
    for one in command.params:
        named = one.name == chosen
        if is_argument(one):
            if named or one.required:
                arguments.append(value if named else "0123456789ab")
        elif named or one.required:
            options += [max(one.opts, key=len), value if named else "0"]
    if any(one.name == "project" for one in command.params):
        options = ["--project", str(root), *options]
    return [*options, "--", *arguments] if arguments else options


def call(command: Any, folder: Path) -> list[str]:
    """A call of a command with nothing but what must be there."""
    return line_with(command, "", "", folder)


def takes_project(command: Any) -> bool:
    return any(one.name == "project" for one in command.params)


SWEPT = [(name, one.name or "") for name, command in sorted(COMMANDS.items()) for one in parameters(command)]


def test_the_sweep_knows_the_commands() -> None:
    assert {"init", "plan", "run", "approve", "ask", "rollback", "stage", "hooks install"} <= set(COMMANDS)
    assert ("rollback", "to") in SWEPT


@pytest.mark.parametrize(("name", "parameter"), SWEPT)
def test_a_nasty_value_gets_a_clear_answer_and_a_refusal_changes_nothing(
    name: str, parameter: str, fresh: Callable[[], Path]
) -> None:
    root, of = fresh(), kinds(COMMANDS[name], parameter)
    before = tree(root)
    for kind, value in values(of, root).items():
        ended = ragtide(*name.split(), *line_with(COMMANDS[name], parameter, value, root))
        assert_clear(ended, (name, parameter, kind))
        if ended.code:
            assert tree(root) == before, (name, parameter, kind)
        else:
            assert int not in of or kind not in ("negative", "huge"), (name, parameter, kind)
            fresh()


# --- folders that are no project -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(name for name, one in COMMANDS.items() if takes_project(one)))
@pytest.mark.parametrize(
    "kind", ["nowhere", "a file", "empty", "very long", "NUL", "quotes", "newlines", "half a letter"]
)
def test_a_folder_that_is_no_project_gets_a_clear_answer_and_stays_as_it_is(
    name: str, kind: str, tmp_path: Path
) -> None:
    write(tmp_path / "a file", "not a folder")
    (tmp_path / "empty").mkdir()
    folder = tmp_path / NASTY.get(kind, kind) if kind != "empty" else tmp_path / "empty"
    before = tree(tmp_path)
    ended = ragtide(*name.split(), *call(COMMANDS[name], folder))
    assert ended.code
    assert_clear(ended, (name, kind))
    assert tree(tmp_path) == before


# --- states that are damaged -----------------------------------------------------------------------------------------

Spoil = Callable[[Path], object]


def garbage(path: Path) -> None:
    path.write_bytes(b"\x00\xff{not: [" * 50)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def folder_instead(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir(parents=True)


def file_instead(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("a file", encoding="utf-8")


def params(text: str) -> Spoil:
    return lambda root: write(root / "params.yaml", text)


def each(pattern: str, spoil: Callable[[Path], object]) -> Spoil:
    """Spoil every file that a pattern finds; it must find one."""

    def spoil_each(root: Path) -> None:
        found = [path for path in sorted(root.glob(pattern)) if path.is_file()]
        assert found, pattern
        for path in found:
            spoil(path)

    return spoil_each


def one(name: str, spoil: Callable[[Path], object]) -> Spoil:
    return lambda root: spoil(root / name)


def made_of(content: bytes) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    return make


STATES: dict[str, Spoil] = {
    "params.yaml is gone": one("params.yaml", Path.unlink),
    "params.yaml is a folder": one("params.yaml", folder_instead),
    "params.yaml is binary": one("params.yaml", garbage),
    "params.yaml is no YAML": params("a: [b"),
    "params.yaml is a list": params("[1, 2]"),
    "params.yaml has an unknown block": params("nonsense: {}"),
    "params.yaml has a wrong type": params("policy: {points_per_hour: [much]}"),
    "params.yaml has an unknown tag": params("!!python/object/apply:os.system ['true']"),
    "params.yaml nests without end": params("[" * 5000),
    "params.yaml has a block that is a number": params("policy: 3"),
    "params.yaml has a key that is no text": params("1: {2: 3}\n? [a]\n: b"),
    "params.yaml has NaN": params("policy: {points_per_hour: .nan}"),
    "params.yaml has infinity": params("policy: {gain_lasts_cycles: .inf}"),
    "params.yaml names a plug-in that is not there": params("embed: {model: 'no.such:Thing'}"),
    "params.yaml names a tracking address that is none": params("registry: {tracking_uri: 'what://is/this'}"),
    "params.yaml names data that is outside": params("observe: {kb: ../../etc}"),
    "params.yaml names an index address that is none": params("index: {uri: 'what://is/this'}"),
    "dvc.yaml is binary": one("dvc.yaml", garbage),
    "dvc.yaml is a folder": one("dvc.yaml", folder_instead),
    "a pointer of DVC is binary": one("data/kb.dvc", garbage),
    "a pointer of DVC is a folder": one("data/kb.dvc", folder_instead),
    ".dvcignore is binary": one(".dvcignore", garbage),
    ".dvcignore is a folder": one(".dvcignore", folder_instead),
    ".dvc is a file": one(".dvc", file_instead),
    "the configuration of DVC is binary": one(".dvc/config", garbage),
    "data/kb is a file": one("data/kb", file_instead),
    "data is a file": one("data", file_instead),
    "data/golden is gone": one("data/golden", shutil.rmtree),
    "a page is binary": one("data/kb/pump.md", garbage),
    "a training file is binary": one("data/train/lines.jsonl", garbage),
    "a golden file is binary": one("data/golden/questions.jsonl", garbage),
    "a golden file is a number": one("data/golden/questions.jsonl", made_of(b"3\n")),
    "a golden file nests without end": one("data/golden/questions.jsonl", made_of(b"[" * 100_000 + b"\n")),
    "a golden file has NaN": one("data/golden/questions.jsonl", made_of(b'{"question": NaN, "answers": [Infinity]}\n')),
    "a training file nests without end": one("data/train/lines.jsonl", made_of(b"[" * 100_000 + b"\n")),
    ".ragtide is a file": one(".ragtide", file_instead),
    "plans are cut off": each(".ragtide/plans/*.json", cut),
    "plans are a file": one(".ragtide/plans", file_instead),
    "an approval is garbage": one(".ragtide/approvals/0123456789ab.json", made_of(b"{")),
    "approvals are a file": one(".ragtide/approvals", made_of(b"")),
    "the list of unreadable pages is garbage": one(".ragtide/quarantine.json", made_of(b"\xff{")),
    "the list of unreadable pages is a list": one(".ragtide/quarantine.json", made_of(b"[1]")),
    "the list of unreadable pages is a folder": one(".ragtide/quarantine.json", folder_instead),
    "snapshots are cut off": each(".ragtide/snapshots/*.json", cut),
    "snapshots are gone": one(".ragtide/snapshots", shutil.rmtree),
    "snapshots are a file": one(".ragtide/snapshots", file_instead),
    "the lock is a folder": one(".ragtide/writer.lock", folder_instead),
    "the index is gone": one(".ragtide/lance", shutil.rmtree),
    "the index is a file": one(".ragtide/lance", file_instead),
    "the index has no manifests": one(".ragtide/lance/chunks.lance/_versions", shutil.rmtree),
    "the index's manifests are garbage": each(".ragtide/lance/chunks.lance/_versions/*", garbage),
    "the index's data is gone": one(".ragtide/lance/chunks.lance/data", shutil.rmtree),
    "the index's data is garbage": each(".ragtide/lance/chunks.lance/data/*", garbage),
    "the index's tags are garbage": each(".ragtide/lance/chunks.lance/_refs/**/*.json", garbage),
    "the vectors are garbage": each(".ragtide/lance/vectors-*/_versions/*", garbage),
    "MLflow's database is cut off": one(".ragtide/mlflow.db", cut),
    "MLflow's database is garbage": one(".ragtide/mlflow.db", garbage),
    "MLflow's database is empty": one(".ragtide/mlflow.db", made_of(b"")),
    "MLflow's database is a folder": one(".ragtide/mlflow.db", folder_instead),
    "MLflow's artifacts are gone": one(".ragtide/mlartifacts", shutil.rmtree),
    "the releases' records are garbage": each(".ragtide/mlartifacts/**/release.json", garbage),
    "the adapter is gone": one(".ragtide/adapters/a1b2", shutil.rmtree),
    "the adapters are a file": one(".ragtide/adapters", file_instead),
    "the kept answers are garbage": each(".ragtide/answers/**/*.db", garbage),
    "artifacts is a file": one("artifacts", file_instead),
    "the note of the index is garbage": one("artifacts/index.json", garbage),
}


def sweep() -> list[tuple[str, str]]:
    """Every command in every state."""
    names = sorted(name for name, command in COMMANDS.items() if takes_project(command))
    return [(name, state) for name in names for state in STATES]


@pytest.mark.long
@pytest.mark.parametrize(("name", "state"), sweep())
def test_a_damaged_state_gets_a_clear_answer_and_a_refusal_changes_nothing(
    name: str, state: str, fresh: Callable[[], Path]
) -> None:
    root = fresh()
    STATES[state](root)
    recorded = name in TURNS or state == "MLflow's database is empty"
    aloof = (*ALOOF, *HISTORY) if recorded else ALOOF
    before = tree(root, aloof)
    ended = ragtide(*name.split(), *call(COMMANDS[name], root))
    assert_clear(ended, (name, state))
    if ended.code:
        assert tree(root, aloof) == before


# --- what nobody has thought of --------------------------------------------------------------------------------------


def test_a_defect_is_told_in_one_line_and_its_traceback_is_kept(
    fresh: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fresh()

    def fail(_: object) -> None:
        raise ZeroDivisionError("nobody thought of this")

    monkeypatch.setattr("ragtide.pipelines.registry.releases.Registry.history", fail)
    monkeypatch.setattr(
        "ragtide.pipelines.release.verify.verify_project", lambda _: [Mismatch("here", "wrong", "nothing helps")]
    )
    monkeypatch.delenv("RAGTIDE_TRACEBACKS")
    ended = ragtide("history", "--project", str(root))
    assert_clear(ended, "a defect")
    assert "this is a defect in Ragtide: ZeroDivisionError: nobody thought of this" in ended.err
    assert ended.code == 1
    [kept] = (root / ".ragtide/logs").glob("defect-*.txt")
    assert str(kept) in ended.err
    assert "in fail" in kept.read_text(encoding="utf-8")
    judged = ragtide("verify", "--project", str(root))
    assert (judged.code, judged.err) == (1, "")
    monkeypatch.setenv("RAGTIDE_TRACEBACKS", "1")
    assert isinstance(ragtide("history", "--project", str(root)).problem, ZeroDivisionError)
