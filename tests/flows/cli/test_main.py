"""Tests of the command group: help, version, completion, verbosity, and errors in one line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import ragtide as package
from ragtide.flows import progress
from ragtide.flows.cli.main import PANELS
from ragtide.flows.cli.reference import every_command
from tests.flows.cli.commands import GOLDEN, MakeProject, at, errors, files, fill, on_invalid, ragtide

TITLES = ["Data", "Plan and run", "Approvals", "Releases", "Triggers", "Services", "Maintenance"]


def test_help_lists_every_command_below_its_panel() -> None:
    code, stdout, _ = ragtide("--help")
    lines = stdout.splitlines()
    panels = [line.strip("╭─╮ ") for line in lines if line.startswith("╭")]
    names = [line.split()[1] for line in lines if line.startswith("│ ") and line[2] not in " -"]
    assert (code, panels) == (0, ["Options", *TITLES])
    assert names == [name for panel in PANELS for name in panel.commands]


@pytest.mark.parametrize("words", ["", "run", "hooks", "hooks install"])
def test_the_short_option_shows_help_too(words: str) -> None:
    assert ragtide(*words.split(), "-h") == ragtide(*words.split(), "--help")
    assert ragtide(*words.split(), "-h")[0] == 0


def test_the_help_of_the_group_begins_as_that_of_each_command() -> None:
    commands = {entry.words.split()[0]: entry.command for entry in every_command()}
    for panel in PANELS:
        for name, text in panel.commands.items():
            assert text.endswith(".")
            assert len(text) <= 80
            assert name == "hooks" or commands[name].help.splitlines()[0] == text


def test_help_imports_neither_the_commands_nor_the_records() -> None:
    script = (
        "import sys; from typer.testing import CliRunner; from ragtide.flows.cli.main import app;"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0;"
        "print(*sorted(m for m in sys.modules if m.startswith('ragtide.') or m in ('pydantic', 'prefect', 'torch')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {
        "ragtide.flows",
        "ragtide.flows.cli",
        "ragtide.flows.cli.console",
        "ragtide.flows.cli.main",
        "ragtide.flows.environment",
        "ragtide.flows.interruption",
        "ragtide.flows.terminal",
        "ragtide.pipelines",
        "ragtide.pipelines.safe_text",
    }


def test_the_version_is_that_of_the_package() -> None:
    assert ragtide("--version") == (0, f"ragtide {package.__version__}\n", "")
    assert package.__version__[0].isdigit()
    assert not hasattr(package, "no_such_name")


def test_an_unknown_command_is_a_usage_error_that_names_the_nearest() -> None:
    code, _, stderr = ragtide("plann")
    assert code == 2
    assert "'plan'" in stderr


def test_a_shell_completes_commands_and_their_options() -> None:
    script = "from ragtide.flows.cli.main import main; main()"
    for typed, expected in (("ragtide ro", "rollback"), ("ragtide run --pl", "--plan"), ("ragtide hooks i", "install")):
        environment = {"_RAGTIDE_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
        command = ["/usr/bin/env", *(f"{name}={value}" for name, value in environment.items()), sys.executable]
        done = subprocess.run([*command, "-c", script], capture_output=True, text=True, check=False)
        assert done.stdout.split() == [expected]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-q", "policies"], progress.Verbosity.QUIET),
        (["policies", "-q"], progress.Verbosity.QUIET),
        (["--quiet", "policies"], progress.Verbosity.QUIET),
        (["policies"], progress.Verbosity.NORMAL),
        (["-v", "policies"], progress.Verbosity.VERBOSE),
        (["policies", "--verbose"], progress.Verbosity.VERBOSE),
        (["-q", "policies", "-v"], progress.Verbosity.VERBOSE),
    ],
)
def test_verbosity_is_set_before_or_after_the_command(
    arguments: list[str], expected: object, make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured: list[object] = []
    monkeypatch.setenv("PREFECT_LOGGING_LEVEL", "WARNING")
    monkeypatch.setattr(progress, "configure", configured.append)
    assert at(make_project(), *arguments)[0] == 0
    assert configured[-1] is expected


@pytest.mark.parametrize("arguments", [["-q", "-v", "policies"], ["policies", "-q", "-v"]])
def test_quiet_and_verbose_exclude_each_other(arguments: list[str], make_project: MakeProject) -> None:
    assert at(make_project(), *arguments)[0] == 2


# --- errors --------------------------------------------------------------------------------------------------------


def empty_kb(root: Path) -> str:
    (root / "data/kb/pump.md").unlink()
    return "data/kb"


def no_kb(root: Path) -> str:
    empty_kb(root)
    (root / "data/kb").rmdir()
    return "data/kb"


def only_unreadable_formats(root: Path) -> str:
    (root / "data/kb/pump.md").rename(root / "data/kb/pump.xyz")
    return "data/kb"


def broken_golden_line(root: Path) -> str:
    (root / "data/golden/questions.jsonl").write_text('{"question": "?"\n', encoding="utf-8")
    return "questions.jsonl:1: is not JSON"


def golden_key_of_the_wrong_type(root: Path) -> str:
    fill(root, golden=GOLDEN | {"answers": []})
    return "questions.jsonl:1: answers"


def broken_training_line(root: Path) -> str:
    (root / "data/train/examples.jsonl").write_text('\n{"prompt": "no completion"}\n', encoding="utf-8")
    on_invalid(root, "refuse")
    return "data/train/examples.jsonl:2: invalid line"


def unknown_param(root: Path) -> str:
    (root / "params.yaml").write_text("policy:\n  points_per_our: 3\n", encoding="utf-8")
    return "'policy.points_per_our'"


def missing_params(root: Path) -> str:
    (root / "params.yaml").unlink()
    return "ragtide init"


def missing_embedder(root: Path) -> str:
    (root / "params.yaml").write_text("embed: {model: 'packaged:nothing'}\n", encoding="utf-8")
    return "embed.model = 'packaged:nothing'"


def missing_generator(root: Path) -> str:
    path = root / "params.yaml"
    path.write_text(path.read_text().replace("tests.fakes:CountingReader", "packaged:nothing"), encoding="utf-8")
    return "generate.model = 'packaged:nothing'"


def golden_answers_that_stand_nowhere(root: Path) -> str:
    fill(root, golden=GOLDEN | {"answers": ["2031-01-01"]})
    return "golden questions"


@pytest.mark.parametrize(
    "damage",
    [
        empty_kb,
        no_kb,
        only_unreadable_formats,
        broken_golden_line,
        golden_key_of_the_wrong_type,
        broken_training_line,
        unknown_param,
        missing_params,
        missing_embedder,
        missing_generator,
        golden_answers_that_stand_nowhere,
    ],
)
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_bad_input_is_named_in_one_line_and_changes_nothing(
    damage: Callable[[Path], str], options: list[str], make_project: MakeProject
) -> None:
    root = fill(make_project())
    expected = damage(root)
    before = files(root)
    code, stdout, stderr = at(root, "plan", *options)
    assert (code, stdout) == (1, "")
    [line] = errors(stderr)
    assert expected in line
    assert files(root) == before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["ask", "Anything?"], "ragtide run"),
        (["serve"], "ragtide run"),
        (["rollback"], "ragtide run"),
        (["export"], "ragtide run"),
        (["export", "7", "--format", "adapter"], "ragtide run"),
        (["diff", "0" * 32 + ".dir"], "there is no snapshot"),
        (["approve", "0123456789ab"], "0123456789ab"),
        (["reject", "0123456789ab", "--why", "no"], "0123456789ab"),
        (["run", "--plan", "0123456789ab"], "0123456789ab"),
    ],
)
def test_a_missing_release_snapshot_or_plan_is_one_line(
    arguments: list[str], expected: str, make_project: MakeProject
) -> None:
    code, stdout, stderr = at(fill(make_project()), *arguments)
    assert (code, stdout) == (1, "")
    [line] = errors(stderr)
    assert expected in line
