"""Tests of the commands that check and clean up: verify, maintain."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.project import Project
from tests.flows.cli.commands import MakeProject, at, document, errors, files, fill, index_of


def test_a_sound_project_has_no_mismatch(make_project: MakeProject) -> None:
    root = fill(make_project())
    assert at(root, "verify")[0] == 0
    found = document(root, "verify")
    assert (found["kind"], found["mismatches"], found["repaired"]) == ("verify", [], [])


def test_verification_says_what_it_has_not_read(make_project: MakeProject) -> None:
    root = fill(make_project())
    plain, deep = at(root, "verify")[1], at(root, "verify", "--deep")[1]
    assert ("--deep" in plain, len(plain.splitlines())) == (True, 2)
    assert ("--deep" in deep, len(deep.splitlines())) == (False, 1)
    assert document(root, "verify", "--deep")["deep"] is True


def test_a_mismatch_is_named_and_repaired_on_demand(indexed: Path) -> None:
    index = index_of(indexed)
    index.tag("release-9", index.latest() or 0)
    code, stdout, _ = at(indexed, "verify")
    assert (code, stdout.startswith("index: "), "release-9" in stdout) == (1, True, True)
    [mismatch] = document(indexed, "verify", code=1)["mismatches"]
    assert mismatch["where"] == "index"
    assert index.has_tag("release-9")
    found = document(indexed, "verify", "--repair")
    assert (found["repaired"], found["mismatches"]) == ([mismatch], [])
    assert not index.has_tag("release-9")
    assert at(indexed, "verify")[0] == 0


def test_maintenance_lists_each_step_and_whether_it_was_done(indexed: Path) -> None:
    code, stdout, _ = at(indexed, "maintain")
    assert code == 0
    steps = [line.split(": ")[:2] for line in stdout.splitlines()]
    assert {"sweep", "compact", "prune"} <= {name for name, _ in steps}
    assert {state for _, state in steps} == {"not done"}


def test_maintenance_without_an_index_does_nothing(make_project: MakeProject) -> None:
    code, stdout, _ = at(fill(make_project()), "maintain")
    assert (code, stdout.count("\n")) == (0, 1)


def test_a_dry_run_of_maintenance_changes_nothing(indexed: Path) -> None:
    leftover = indexed / ".ragtide/lance/chunks.lance/data/.tmp123"
    leftover.write_text("partial", encoding="utf-8")
    before = files(indexed)
    code, stdout, _ = at(indexed, "maintain", "--dry-run")
    assert (code, "sweep: not done: files left behind by killed writers: 1" in stdout) == (0, True)
    assert files(indexed) == before
    assert "sweep: done: files left behind by killed writers: 1" in at(indexed, "maintain")[1]
    assert not leftover.exists()


@pytest.mark.parametrize("command", [["verify"], ["maintain"], ["approve", "0123456789ab"], ["stage", "index"]])
def test_a_command_that_writes_needs_the_lease(command: list[str], indexed: Path) -> None:
    with Project.open(indexed, no_progress).workspace.write_lock(what="flow run busy-bee"):
        code, _, stderr = at(indexed, *command)
    assert code == 1
    [line] = errors(stderr)
    assert "busy-bee" in line
