"""Tests of invalid input: every wrong argument, file or state gives one clear error and changes nothing.

The commands are read from the command line itself, so new commands and options are tested automatically.
"""

from __future__ import annotations

import inspect
import json
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
from tests.flows.cli.commands import keep_commands_short
from tests.projects import forget_databases, release_of

PAGE = "# Pump\n\n## Pump 1\n\n- End of life: 2027-01-01\n"
GOLDEN = {"question": "When does Pump 1 reach end of life?", "answers": ["2027-01-01"], "docs": ["pump.md"]}


COMMANDS: dict[str, Any] = {entry.words: entry.command for entry in every_command()}
# These say what they did wrong, and no more; 3 waits for an approval, 4 is past a limit, 5 is the gate's no.
CODES = range(6)
# Files that may change although nothing was done: locks, logs, caches, and Prefect's own folder.
IGNORED = (
    ".ragtide/writer.lock",
    ".ragtide/pointer.lock",
    ".ragtide/mlflow.db.lock",
    ".ragtide/writer.json",
    ".ragtide/logs",
    # DVC's databases of hashes, which it opens and closes as it likes.
    ".ragtide/dvc",
    # A copy of MLflow's files, and DVC's temporary files.
    ".ragtide/adapters",
    ".dvc/tmp",
    ".ragtide/answers",
    ".ragtide/prefect",
)
# A failed cycle has versioned the data and is recorded as failed: data and settings stay as they were.
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
# Lines that may come before an error: Prefect's log of a retry, and progress (flows/progress.py).
OTHER_LINES = re.compile(r"\d\d:\d\d:\d\d\.\d+ \| |.*: (started, \d+ to do|(finished, |failed at )?\d+ of \d+ )")
CYCLES = ("run",)

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
    "half a character": "caf\udce9",
    "markup": "[bold]x[/nope]",
    "negative": "-1",
    "huge": "9" * 40,
    "nan": "nan",
    "zero": "0",
    "glob": "*",
    "dash": "--",
}


@dataclass(frozen=True)
class Result:
    """The result of a command."""

    code: int
    out: str
    err: str
    problem: BaseException | None


def ragtide(*arguments: str) -> Result:
    invoked = CliRunner().invoke(app, list(arguments))
    problem = None if isinstance(invoked.exception, SystemExit) else invoked.exception
    return Result(invoked.exit_code, invoked.stdout, invoked.stderr, problem)


def assert_clear(result: Result, case: object) -> None:
    """No traceback, a known exit code, and for an error one line or the usage."""
    assert result.problem is None, f"{case}: {result.problem!r}"
    assert result.code in CODES, case
    assert "Traceback" not in result.out + result.err, case
    if result.code == 1 and result.err:
        lines = [line for line in result.err.splitlines() if not OTHER_LINES.match(line)]
        assert (len(lines), lines[0][:9]) == (1, "ragtide: "), (case, result.err)
    if result.code == 2 and result.err:
        assert "Usage:" in result.err, (case, result.err)
    assert result.code == 0 or result.out or result.err, f"{case}: there is no output"


def tree(root: Path, ignored: tuple[str, ...] = IGNORED) -> dict[str, str]:
    """The files of a folder: name -> digest of the content. Empty folders are not listed."""
    names = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if path.is_file()]
    return {name: md5((root / name).read_bytes().hex()) for name in names if not name.startswith(ignored)}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(the project, an unchanged copy): two releases, a plan, a snapshot, an adapter and a history."""
    home = tmp_path_factory.mktemp("bad-input")
    root = write_project(home / "project")
    write(root / "data/kb/pump.md", PAGE)
    write(root / "data/golden/questions.jsonl", json.dumps(GOLDEN) + "\n")
    write(root / "data/train/lines.jsonl", json.dumps({"prompt": "How old is it?", "completion": "Old."}) + "\n")
    record_snapshot(Project.open(root, no_progress).workspace)
    opened = Project.open(root, no_progress)
    write(opened.workspace.adapters / "a1b2" / SKILLS, json.dumps({"reads": True}))
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
        release_of(opened, model)
    write(root / "data/kb/tank.md", PAGE.replace("Pump", "Tank"))
    opened = Project.open(root, no_progress)
    save_plan(opened, make_plan(opened, opened.corpus(take_snapshot(opened.workspace))))
    shutil.copytree(root, home / "copy", symlinks=True)
    return root, home / "copy"


@pytest.fixture
def fresh(project: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """Restores the project; the process cannot be replaced, and relative paths stay inside the test's folder."""

    def make() -> Path:
        root, copy = project
        forget_databases()
        shutil.rmtree(root)
        shutil.copytree(copy, root, symlinks=True)
        return root

    keep_commands_short(monkeypatch)
    here = project[0].parent / "here" / "below"
    here.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(here)
    return make


def parameters(command: Any) -> list[Any]:
    return [option for option in command.params if option.name != "project" and not getattr(option, "is_flag", False)]


def is_argument(parameter: Any) -> bool:
    return not parameter.opts[0].startswith("-")


def kinds(command: Any, parameter: str) -> set[Any]:
    """The types that a parameter may have."""
    kind = typing.get_type_hints(inspect.unwrap(command.callback))[parameter]
    return {kind, *typing.get_args(kind)}


def values(kinds: set[Any], root: Path) -> dict[str, str]:
    """Values for a parameter; no path leads out of the test's folder."""
    if Path not in kinds:
        return NASTY
    write(root.parent / "a file", "")
    own = {"absolute": str(root.parent / "a file"), "folder": str(root), "nowhere": "/proc/nowhere/x", "dash": "a/b/c"}
    return NASTY | own


def line_with(command: Any, chosen: str, value: str, root: Path) -> list[str]:
    """The arguments of a command with `value` for one parameter and harmless values for the other required ones."""
    options: list[str] = []
    arguments: list[str] = []
    for parameter in command.params:
        is_chosen = parameter.name == chosen
        if is_argument(parameter):
            if is_chosen or parameter.required:
                arguments.append(value if is_chosen else "0123456789ab")
        elif is_chosen or parameter.required:
            options += [max(parameter.opts, key=len), value if is_chosen else "0"]
    if takes_project(command):
        options = ["--project", str(root), *options]
    return [*options, "--", *arguments] if arguments else options


def call(command: Any, folder: Path) -> list[str]:
    """The arguments of a command with only the required ones."""
    return line_with(command, "", "", folder)


def takes_project(command: Any) -> bool:
    return any(parameter.name == "project" for parameter in command.params)


CASES = [(name, option.name or "") for name, command in sorted(COMMANDS.items()) for option in parameters(command)]


def test_the_cases_cover_the_commands() -> None:
    assert {"init", "plan", "run", "approve", "ask", "rollback", "stage", "hooks install"} <= set(COMMANDS)
    assert ("rollback", "to") in CASES


@pytest.mark.parametrize(("name", "parameter"), CASES)
def test_an_invalid_value_gives_a_clear_error_and_changes_nothing(
    name: str, parameter: str, fresh: Callable[[], Path]
) -> None:
    root, types = fresh(), kinds(COMMANDS[name], parameter)
    before = tree(root)
    for kind, value in values(types, root).items():
        result = ragtide(*name.split(), *line_with(COMMANDS[name], parameter, value, root))
        assert_clear(result, (name, parameter, kind))
        if result.code:
            assert tree(root) == before, (name, parameter, kind)
        else:
            assert int not in types or kind not in ("negative", "huge"), (name, parameter, kind)
            fresh()


# --- folders without a project ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(name for name, command in COMMANDS.items() if takes_project(command)))
@pytest.mark.parametrize(
    "kind", ["nowhere", "a file", "empty", "very long", "NUL", "quotes", "newlines", "half a character"]
)
def test_a_folder_without_a_project_gives_a_clear_error_and_is_not_changed(
    name: str, kind: str, tmp_path: Path
) -> None:
    write(tmp_path / "a file", "not a folder")
    (tmp_path / "empty").mkdir()
    folder = tmp_path / NASTY.get(kind, kind) if kind != "empty" else tmp_path / "empty"
    before = tree(tmp_path)
    result = ragtide(*name.split(), *call(COMMANDS[name], folder))
    assert result.code
    assert_clear(result, (name, kind))
    assert tree(tmp_path) == before


# --- damaged states --------------------------------------------------------------------------------------------------

Damage = Callable[[Path], object]


def garbage(path: Path) -> None:
    path.write_bytes(b"\x00\xff{not: [" * 50)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def folder_instead(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir(parents=True)


def file_instead(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("a file", encoding="utf-8")


def params(text: str) -> Damage:
    return lambda root: write(root / "params.yaml", text)


def each(pattern: str, damage: Callable[[Path], object]) -> Damage:
    """Damage every file that matches a pattern, which must match at least one."""

    def damage_each(root: Path) -> None:
        files = [path for path in sorted(root.glob(pattern)) if path.is_file()]
        assert files, pattern
        for path in files:
            damage(path)

    return damage_each


def file(name: str, damage: Callable[[Path], object]) -> Damage:
    return lambda root: damage(root / name)


def with_content(content: bytes) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    return make


STATES: dict[str, Damage] = {
    "params.yaml is missing": file("params.yaml", Path.unlink),
    "params.yaml is a folder": file("params.yaml", folder_instead),
    "params.yaml is binary": file("params.yaml", garbage),
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
    "params.yaml has an invalid tracking address": params("registry: {tracking_uri: 'what://is/this'}"),
    "params.yaml names data that is outside": params("data: {kb: ../../etc}"),
    "params.yaml has an invalid index address": params("index: {uri: 'what://is/this'}"),
    "dvc.yaml is binary": file("dvc.yaml", garbage),
    "dvc.yaml is a folder": file("dvc.yaml", folder_instead),
    "a pointer of DVC is binary": file("data/kb.dvc", garbage),
    "a pointer of DVC is a folder": file("data/kb.dvc", folder_instead),
    ".dvcignore is binary": file(".dvcignore", garbage),
    ".dvcignore is a folder": file(".dvcignore", folder_instead),
    ".dvc is a file": file(".dvc", file_instead),
    "the configuration of DVC is binary": file(".dvc/config", garbage),
    "data/kb is a file": file("data/kb", file_instead),
    "data is a file": file("data", file_instead),
    "data/golden is missing": file("data/golden", shutil.rmtree),
    "a page is binary": file("data/kb/pump.md", garbage),
    "a training file is binary": file("data/train/lines.jsonl", garbage),
    "a golden file is binary": file("data/golden/questions.jsonl", garbage),
    "a golden file is a number": file("data/golden/questions.jsonl", with_content(b"3\n")),
    "a golden file nests without end": file("data/golden/questions.jsonl", with_content(b"[" * 100_000 + b"\n")),
    "a golden file has NaN": file(
        "data/golden/questions.jsonl", with_content(b'{"question": NaN, "answers": [Infinity]}\n')
    ),
    "a training file nests without end": file("data/train/lines.jsonl", with_content(b"[" * 100_000 + b"\n")),
    ".ragtide is a file": file(".ragtide", file_instead),
    "plans are truncated": each(".ragtide/plans/*.json", truncate),
    "plans are a file": file(".ragtide/plans", file_instead),
    "an approval is garbage": file(".ragtide/approvals/0123456789ab.json", with_content(b"{")),
    "approvals are a file": file(".ragtide/approvals", with_content(b"")),
    "the list of unreadable pages is garbage": file(".ragtide/quarantine.json", with_content(b"\xff{")),
    "the list of unreadable pages is a list": file(".ragtide/quarantine.json", with_content(b"[1]")),
    "the list of unreadable pages is a folder": file(".ragtide/quarantine.json", folder_instead),
    "snapshots are truncated": each(".ragtide/snapshots/*.json", truncate),
    "snapshots are missing": file(".ragtide/snapshots", shutil.rmtree),
    "snapshots are a file": file(".ragtide/snapshots", file_instead),
    "the lock is a folder": file(".ragtide/writer.lock", folder_instead),
    "the index is missing": file(".ragtide/lance", shutil.rmtree),
    "the index is a file": file(".ragtide/lance", file_instead),
    "the index has no manifests": file(".ragtide/lance/chunks.lance/_versions", shutil.rmtree),
    "the index's manifests are garbage": each(".ragtide/lance/chunks.lance/_versions/*", garbage),
    "the index's data is missing": file(".ragtide/lance/chunks.lance/data", shutil.rmtree),
    "the index's data is garbage": each(".ragtide/lance/chunks.lance/data/*", garbage),
    "the index's tags are garbage": each(".ragtide/lance/chunks.lance/_refs/**/*.json", garbage),
    "the vectors are garbage": each(".ragtide/lance/vectors-*/_versions/*", garbage),
    "MLflow's database is truncated": file(".ragtide/mlflow.db", truncate),
    "MLflow's database is garbage": file(".ragtide/mlflow.db", garbage),
    "MLflow's database is empty": file(".ragtide/mlflow.db", with_content(b"")),
    "MLflow's database is a folder": file(".ragtide/mlflow.db", folder_instead),
    "MLflow's artifacts are missing": file(".ragtide/mlartifacts", shutil.rmtree),
    "the releases' records are garbage": each(".ragtide/mlartifacts/**/release.json", garbage),
    "the adapter is missing": file(".ragtide/adapters/a1b2", shutil.rmtree),
    "the adapters are a file": file(".ragtide/adapters", file_instead),
    "the cached answers are garbage": each(".ragtide/answers/**/*.db", garbage),
    "artifacts is a file": file("artifacts", file_instead),
    "the record of the index build is garbage": file("artifacts/index.json", garbage),
}


def damaged_cases() -> list[tuple[str, str]]:
    """Every command in every state."""
    names = sorted(name for name, command in COMMANDS.items() if takes_project(command))
    return [(name, state) for name in names for state in STATES]


@pytest.mark.long
@pytest.mark.parametrize(("name", "state"), damaged_cases())
def test_a_damaged_state_gives_a_clear_error_and_changes_nothing(
    name: str, state: str, fresh: Callable[[], Path]
) -> None:
    root = fresh()
    STATES[state](root)
    recorded = name in CYCLES or state == "MLflow's database is empty"
    ignored = (*IGNORED, *HISTORY) if recorded else IGNORED
    before = tree(root, ignored)
    result = ragtide(*name.split(), *call(COMMANDS[name], root))
    assert_clear(result, (name, state))
    if result.code:
        assert tree(root, ignored) == before


# --- defects of Ragtide ----------------------------------------------------------------------------------------------


def test_a_defect_is_reported_in_one_line_and_its_traceback_is_stored(
    fresh: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fresh()

    def fail(_: object) -> None:
        raise ZeroDivisionError("unexpected")

    monkeypatch.setattr("ragtide.pipelines.registry.releases.Registry.history", fail)
    monkeypatch.setattr(
        "ragtide.pipelines.release.verify.verify_project", lambda _: [Mismatch("here", "wrong", "no remedy")]
    )
    monkeypatch.delenv("RAGTIDE_TRACEBACKS")
    result = ragtide("history", "--project", str(root))
    assert_clear(result, "a defect")
    assert "ZeroDivisionError: unexpected" in result.err
    assert result.code == 1
    [traceback_file] = (root / ".ragtide/logs").glob("defect-*.txt")
    assert str(traceback_file) in result.err
    assert "in fail" in traceback_file.read_text(encoding="utf-8")
    verified = ragtide("verify", "--project", str(root))
    assert (verified.code, verified.err) == (1, "")
    monkeypatch.setenv("RAGTIDE_TRACEBACKS", "1")
    assert isinstance(ragtide("history", "--project", str(root)).problem, ZeroDivisionError)
