"""Tests of the commands for data: init, snapshot, diff, examples, stage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.factories import write
from tests.flows.cli.commands import (
    GOLDEN,
    PAGE,
    MakeProject,
    add_examples,
    at,
    cells,
    document,
    errors,
    files,
    fill,
    index_of,
    on_invalid,
    ragtide,
)

LEAK = {"prompt": GOLDEN["question"], "completion": "2027-01-01", "doc": "pump.md"}
FINE = {"prompt": "How old is it?", "completion": "Old."}


def test_init_makes_a_project_and_keeps_existing_files(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("policy: {points_per_hour: 7}\n", encoding="utf-8")
    (tmp_path / ".gitignore").write_text("mine\n.ragtide/\n", encoding="utf-8")
    for _ in range(2):
        assert ragtide("init", str(tmp_path))[0] == 0
    assert (tmp_path / "params.yaml").read_text(encoding="utf-8") == "policy: {points_per_hour: 7}\n"
    assert (tmp_path / ".gitignore").read_text(encoding="utf-8").split() == [
        "mine",
        ".ragtide/",
        "artifacts/",
        "export/",
    ]
    assert all((tmp_path / name).exists() for name in ("dvc.yaml", "prefect.yaml", "data/kb", ".dvc"))


def test_init_into_a_file_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "a", "")
    code, _, stderr = ragtide("init", str(tmp_path / "a"))
    assert (code, len(errors(stderr))) == (1, 1)


def test_a_snapshot_is_named_by_content(make_project: MakeProject) -> None:
    root = fill(make_project())
    first, second = (at(root, "snapshot")[1] for _ in range(2))
    assert first == second
    assert document(root, "status")["snapshot"] == first.split()[1]
    assert first.splitlines()[1] == "1 document, 0 files of training examples, 1 file of golden questions"


def test_changes_since_a_snapshot_are_listed_by_kind(make_project: MakeProject) -> None:
    root = fill(make_project())
    write(root / "data/kb/tank.md", PAGE.replace("Pump", "Tank"))
    before = at(root, "snapshot")[1].split()[1]
    assert document(root, "diff", before)["changes"]["added"] == []
    (root / "data/kb/tank.md").rename(root / "data/kb/barrel.md")
    write(root / "data/kb/pump.md", PAGE + "\nMore.\n")
    found = document(root, "diff", before)
    assert (found["kind"], found["changes"]["before"]) == ("diff", before)
    assert found["changes"]["edited"] == ["pump.md"]
    assert [(move["before"], move["after"]) for move in found["changes"]["renamed"]] == [("tank.md", "barrel.md")]
    code, stdout, _ = at(root, "diff", before)
    assert (code, "barrel.md" in stdout) == (0, True)


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize(("action", "code"), [("skip", 0), ("refuse", 1)])
def test_filtered_examples_are_listed_with_line_and_reason(action: str, code: int, make_project: MakeProject) -> None:
    root = add_examples(fill(make_project()), FINE, LEAK, "{", FINE, FINE | {"doc": "gone.md"})
    on_invalid(root, action)
    before = files(root)
    found = document(root, "examples", code=code)
    kinds = [
        ("data/train/lines.jsonl:2", "leak"),
        ("data/train/lines.jsonl:3", "invalid line"),
        ("data/train/lines.jsonl:4", "duplicate"),
    ]
    assert (found["kind"], found["usable"]) == ("examples", 1)
    assert [(issue["where"], issue["kind"]) for issue in found["filtered"]] == kinds
    assert found["without_document"] == [{"where": "data/train/lines.jsonl:5", "document": "gone.md"}]
    ended, stdout, _ = at(root, "examples")
    assert ended == code
    assert [tuple(row[:2]) for row in cells(stdout)][:3] == kinds
    assert cells(stdout)[3][0] == "data/train/lines.jsonl:5"
    assert files(root) == before


@pytest.mark.usefixtures("wide")
def test_contradictions_are_listed_whether_filtered_or_kept(make_project: MakeProject) -> None:
    root = add_examples(fill(make_project()), FINE, FINE | {"completion": "Young."})
    found = document(root, "examples")
    assert (found["usable"], [issue["kind"] for issue in found["filtered"]]) == (0, ["contradiction"] * 2)
    on_invalid(root, "refuse", contradictions="keep")
    found = document(root, "examples")
    assert (found["usable"], found["filtered"], len(found["contradictory"])) == (2, [], 2)
    assert [row[1] for row in cells(at(root, "examples")[1])] == ["contradiction, kept"] * 2


def test_examples_that_are_all_usable_make_no_table(make_project: MakeProject) -> None:
    root = add_examples(fill(make_project()), FINE)
    on_invalid(root, "refuse")
    code, stdout, stderr = at(root, "examples")
    assert (code, cells(stdout), stderr) == (0, [], "")
    assert "usable training examples: 1\n" in stdout


def test_a_stage_under_other_settings_needs_the_option_rebuild(indexed: Path) -> None:
    path = indexed / "params.yaml"
    path.write_text(path.read_text().replace("document_prefix: ''", "document_prefix: 'passage: '"), encoding="utf-8")
    before = index_of(indexed).latest()
    code, _, stderr = at(indexed, "stage", "index")
    assert (code, len(errors(stderr)), index_of(indexed).latest()) == (1, 1, before)
    code, stdout, _ = at(indexed, "stage", "index", "--rebuild")
    assert (code, json.loads(stdout)["rows"]) == (0, 1)
