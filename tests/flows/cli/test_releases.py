"""Tests of the commands about releases: status, rollback, lineage, and what they say of deleted documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from ragtide.pipelines import corpus
from ragtide.pipelines.data.documents import DocumentReader, ReadDocument
from ragtide.pipelines.history import freshness
from ragtide.pipelines.history.history import FILTERED_EXAMPLES
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.data import DataIssue
from ragtide.pipelines.training.examples import Example, read_examples
from tests.factories import BASE, write
from tests.flows.cli.commands import MakeProject, add_examples, at, document, errors, fill
from tests.flows.cli.test_data import FINE, LEAK
from tests.projects import release_of

UNREADABLE = b"caf\xe9 \xff\x00"


def test_without_a_release_the_status_names_the_command_that_makes_one(make_project: MakeProject) -> None:
    root = fill(make_project())
    code, stdout, _ = at(root, "status")
    assert (code, "`ragtide run`" in stdout) == (0, True)
    found = document(root, "status")
    assert (found["kind"], found["release"], found["changes"]) == ("status", None, None)


def test_documents_that_cannot_be_read_are_listed_by_status_and_plan(indexed: Path) -> None:
    (indexed / "data/kb/bad.md").write_bytes(UNREADABLE)
    (indexed / "data/kb/nowhere.md").symlink_to("nothing")
    assert at(indexed, "stage", "index")[0] == 0
    quarantined = document(indexed, "status")["quarantined"]
    assert sorted(entry["document"] for entry in quarantined) == ["bad.md", "nowhere.md"]
    for command in ("status", "plan"):
        stdout = at(indexed, command)[1]
        assert all(name in stdout for name in ("bad.md", "nowhere.md"))


@pytest.mark.parametrize("lines", [0, 2])
def test_status_counts_the_examples_that_the_last_cycle_filtered_out(lines: int, make_project: MakeProject) -> None:
    root = add_examples(fill(make_project()), FINE, LEAK)
    assert document(root, "status")["filtered_examples"] is None
    project = Project.open(root, no_progress)
    for count in (5, lines):
        with project.registry.cycle() as log:
            log.metrics({FILTERED_EXAMPLES: count})
    assert document(root, "status")["filtered_examples"] == lines
    assert ("`ragtide examples`" in at(root, "status")[1]) is bool(lines)


def test_status_reads_neither_documents_nor_training_examples(
    make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = add_examples(fill(make_project()), FINE, LEAK)
    release_of(Project.open(root, no_progress), BASE)
    read: list[str] = []
    read_documents = DocumentReader.read

    def counting_read(reader: DocumentReader, names: Iterable[str]) -> Iterator[tuple[str, ReadDocument | None]]:
        read.extend(names)
        return read_documents(reader, names)

    def counting_lines(folder: Path, files: dict[str, str]) -> list[Example | DataIssue]:
        read.extend(files)
        return read_examples(folder, files)

    monkeypatch.setattr(DocumentReader, "read", counting_read)
    monkeypatch.setattr(corpus, "read_examples", counting_lines)
    assert at(root, "examples")[0] == 0
    assert read == ["pump.md", "data/train/lines.jsonl"]
    read.clear()
    write(root / "data/kb/new.md", "# New\n\nA page.\n")
    (root / "data/golden/questions.jsonl").write_text("{", encoding="utf-8")
    found = document(root, "status")
    assert (found["release"]["id"], found["changes"]["added"]) == ("1", ["new.md"])
    assert at(root, "status")[0] == 0
    assert read == []


def test_status_check_exits_with_4_past_a_limit(make_project: MakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freshness, "UNSEEN_HOURS", 1e-9)
    root = fill(make_project(freshness={"max_lag_hours": 1e-9}))
    code, stdout, _ = at(root, "status", "--check")
    assert (code, stdout.count("\n"), "freshness.max_lag_hours" in stdout) == (4, 1, True)
    assert len(document(root, "status", "--check", code=4)["alarms"]) == 1
    assert at(root, "status")[0] == 0


def test_a_rollback_succeeds_while_a_run_is_in_progress_and_names_it(trained: Path) -> None:
    with Project.open(trained, no_progress).workspace.write_lock(what="flow run busy-bee"):
        code, stdout, _ = at(trained, "rollback")
    assert (code, "flow run busy-bee" in stdout) == (0, True)
    assert document(trained, "status")["release"]["id"] == "1"


# --- lineage -------------------------------------------------------------------------------------------------------


def test_the_lineage_is_found_by_adapter_by_release_and_for_the_live_release(trained: Path) -> None:
    calls = ([], ["a1b2"], ["--release", "1"])
    found = [document(trained, "lineage", *arguments) for arguments in calls]
    assert found[0] == found[1] == found[2]
    lineage = found[0]["lineage"]
    assert (found[0]["kind"], lineage["model"]["adapter"], lineage["releases"]) == ("lineage", "a1b2", ["1", "2"])
    assert [example["digest"] for example in lineage["examples"]] == ["d1"]
    assert [(seen["name"], seen["is_source"]) for seen in lineage["documents"]] == [
        ("pump.md", True),
        ("tank.md", False),
    ]
    code, stdout, _ = at(trained, "lineage")
    assert (code, all(name in stdout for name in ("a1b2", "d1", "pump.md", "tank.md"))) == (0, True)


def test_the_adapters_that_saw_a_document_are_listed_by_release(trained: Path) -> None:
    found = document(trained, "lineage", "--document", "tank.md")
    assert found["kind"] == "sightings"
    assert [(seen["release"], seen["adapter"], seen["is_live"]) for seen in found["releases"]] == [
        ("1", "a1b2", False),
        ("2", "a1b2", True),
    ]
    code, stdout, _ = at(trained, "lineage", "--document", "tank.md")
    assert (code, stdout.count("a1b2")) == (0, 2)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["a1b2", "--release", "1"], "--release"), (["other"], "'other'"), (["--release", "7"], "7")],
)
def test_an_unknown_adapter_or_release_is_one_line(arguments: list[str], expected: str, trained: Path) -> None:
    code, stdout, stderr = at(trained, "lineage", *arguments)
    assert (code, stdout) == (1, "")
    [line] = errors(stderr)
    assert expected in line


def test_deleted_documents_that_the_adapter_saw_are_named_by_status_and_rollback(trained: Path) -> None:
    assert document(trained, "status")["deleted_documents_seen"] == []
    (trained / "data/kb/tank.md").unlink()
    assert document(trained, "status")["deleted_documents_seen"] == ["tank.md"]
    for command in ("status", "rollback"):
        [line] = [line for line in at(trained, command)[1].splitlines() if "`ragtide lineage`" in line]
        assert "`tank.md`" in line
