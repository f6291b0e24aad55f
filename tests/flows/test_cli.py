"""Does bad input get one clear line, an exit code that is not 0, and leave everything as it was?"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app

MakeProject = Callable[..., Path]
PAGE = "# Pump\n\n## Pump 1\n\n- End of life: 2027-01-01\n"
GOLDEN = {"question": "When does Pump 1 reach end of life?", "answers": ["2027-01-01"], "docs": ["pump.md"]}


def ragtide(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def fill(root: Path, page: str = PAGE, golden: object = GOLDEN) -> Path:
    (root / "data/kb/pump.md").write_text(page, encoding="utf-8")
    (root / "data/golden/questions.jsonl").write_text(json.dumps(golden) + "\n", encoding="utf-8")
    return root


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def empty_kb(root: Path) -> str:
    (root / "data/kb/pump.md").unlink()
    return "put your documents there"


def no_kb(root: Path) -> str:
    empty_kb(root)
    (root / "data/kb").rmdir()
    return "does not exist"


def only_unreadable_formats(root: Path) -> str:
    (root / "data/kb/pump.md").rename(root / "data/kb/pump.xyz")
    return "holds no documents"


def broken_golden_line(root: Path) -> str:
    (root / "data/golden/questions.jsonl").write_text('{"question": "?"\n', encoding="utf-8")
    return "questions.jsonl:1 is not JSON"


def golden_key_of_the_wrong_type(root: Path) -> str:
    fill(root, golden=GOLDEN | {"answers": []})
    return "questions.jsonl:1: answers"


def broken_training_line(root: Path) -> str:
    (root / "data/train/examples.jsonl").write_text('\n{"prompt": "only half"}\n', encoding="utf-8")
    return "examples.jsonl:2: should hold prompt and completion"


def unknown_param(root: Path) -> str:
    (root / "params.yaml").write_text("policy:\n  points_per_our: 3\n", encoding="utf-8")
    return "unknown key 'policy.points_per_our'"


def missing_params(root: Path) -> str:
    (root / "params.yaml").unlink()
    return "ragtide init"


def missing_embedder(root: Path) -> str:
    (root / "params.yaml").write_text("embed: {model: 'packaged:nothing'}\n", encoding="utf-8")
    return "embed.model = 'packaged:nothing' is not installed"


def missing_generator(root: Path) -> str:
    path = root / "params.yaml"
    path.write_text(path.read_text().replace("tests.fakes:CountingReader", "packaged:nothing"), encoding="utf-8")
    return "generate.model = 'packaged:nothing' is not installed"


def golden_answers_that_stand_nowhere(root: Path) -> str:
    fill(root, golden=GOLDEN | {"answers": ["2031-01-01"]})
    return "golden questions are stale"


@pytest.mark.parametrize(
    "spoil",
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
def test_bad_input_is_named_in_one_line_and_changes_nothing(
    spoil: Callable[[Path], str], make_project: MakeProject
) -> None:
    root = fill(make_project())
    expected = spoil(root)
    before = files(root)
    code, out, err = ragtide("plan", "--project", str(root))
    assert (code, out) == (1, "")
    assert err.startswith("ragtide: ")
    assert expected in err
    assert err.count("\n") == 1
    assert files(root) == before


def test_a_plan_changes_neither_data_nor_registry_nor_index(make_project: MakeProject) -> None:
    root = fill(make_project())
    before = files(root)
    code, out, _ = ragtide("plan", "--project", str(root))
    kept = (".ragtide/plans", ".ragtide/answers")
    made = {name for name in files(root).keys() - before.keys() if not name.startswith(kept)}
    assert code == 0
    assert "Decision: REFRESH" in out
    assert not made
    assert {name: content for name, content in files(root).items() if name in before} == before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["ask", "Anything?"], "nothing is live yet"),
        (["rollback"], "nothing is live yet"),
        (["diff", "0" * 32 + ".dir"], "there is no snapshot"),
    ],
)
def test_asking_for_what_is_not_there_says_how_to_get_it(
    arguments: list[str], expected: str, make_project: MakeProject
) -> None:
    root = fill(make_project())
    code, _, err = ragtide(*arguments, "--project", str(root))
    assert code == 1
    assert expected in err


def test_init_makes_a_project_and_leaves_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("policy: {points_per_hour: 7}\n", encoding="utf-8")
    code, _, _ = ragtide("init", str(tmp_path))
    assert code == 0
    assert (tmp_path / "params.yaml").read_text(encoding="utf-8") == "policy: {points_per_hour: 7}\n"
    assert all((tmp_path / name).exists() for name in ("dvc.yaml", "prefect.yaml", "data/kb", ".dvc"))


def test_a_snapshot_is_named_by_content_and_listed_by_status(make_project: MakeProject) -> None:
    root = fill(make_project())
    _, first, _ = ragtide("snapshot", "--project", str(root))
    _, second, _ = ragtide("snapshot", "--project", str(root))
    _, status, _ = ragtide("status", "--project", str(root))
    assert first == second
    assert first.split()[1].endswith(".dir")
    assert "nothing is live yet" in status
