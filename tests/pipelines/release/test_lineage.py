"""Tests of adapter lineage and of the flags for deleted documents, on real MLflow and LanceDB."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from ragtide.pipelines.build import build_index, build_model
from ragtide.pipelines.data.moves import DocumentPaths
from ragtide.pipelines.data.snapshot import record_snapshot, take_snapshot
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.models.load import LoadedEmbedder
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.data import ChangeSet, Snapshot
from ragtide.pipelines.records.release import BuiltModel, Release
from ragtide.pipelines.release.lineage import (
    SAW_DELETED,
    DeletedDocuments,
    DocumentState,
    Sighting,
    deleted_seen_documents,
    deleted_training_documents,
    flag_releases,
    lineage_of,
    release_with_adapter,
    releases_to_flag,
    sightings,
)
from ragtide.pipelines.release.rollback import roll_back
from ragtide.pipelines.workspace import Workspace
from tests.conftest import write_project
from tests.factories import BASE, UNCHANGED, UNMOVED, delta, evidence, md5, snapshot, workspace, write
from tests.projects import Home, release_of

NAMES = ("Pump", "Tank", "Valve")
ASKS = "When does {} 1 reach end of life?"


def page(name: str, end_of_life: str = "2027-01-01") -> str:
    return f"# {name}\n\n## {name} 1\n\n- End of life: {end_of_life}\n"


# --- deleted documents ---------------------------------------------------------------------------------------------


def remember(space: Workspace, *states: dict[str, str]) -> Snapshot:
    """Snapshots of these documents (name -> text), the last one being that of today."""
    taken = [snapshot({name: md5(text) for name, text in state.items()}) for state in states]
    for number, one in enumerate(taken):
        file = space.snapshot_file(one.id)
        one.write(file)
        os.utime(file, (1000 + number, 1000 + number))
    return taken[-1]


@pytest.mark.parametrize(
    ("states", "deleted"),
    [
        ([{"a.md": "1", "b.md": "2"}], ()),
        ([{"a.md": "1", "b.md": "2"}, {"b.md": "2"}], ("a.md",)),
        ([{"a.md": "1"}, {"a.md": "1, edited"}], ()),
        ([{"a.md": "1"}, {"moved.md": "1"}], ()),
        ([{"a.md": "1"}, {"moved.md": "1"}, {"moved.md": "1, edited"}], ()),
        ([{"a.md": "1"}, {"a.md": "1, edited"}, {"moved.md": "1, edited"}], ()),
        ([{"a.md": "1"}, {"a.md": "1, edited"}, {"b.md": "2"}], ("a.md",)),
        ([{"a.md": "1"}, {"b.md": "2"}, {"a.md": "1 again", "b.md": "2"}], ()),
    ],
    ids=[
        "all there",
        "deleted",
        "edited",
        "renamed",
        "renamed, then edited",
        "edited, then renamed",
        "edited, then deleted",
        "deleted, and there again",
    ],
)
def test_a_document_is_deleted_where_it_is_neither_present_nor_renamed(
    states: list[dict[str, str]], deleted: tuple[str, ...], tmp_path: Path
) -> None:
    space = workspace(tmp_path)
    now = remember(space, *states)
    seen = {name: md5(text) for name, text in states[0].items()}
    assert DeletedDocuments(space, now, ()).among(seen) == deleted


def test_a_pending_or_unreadable_document_is_not_deleted(tmp_path: Path) -> None:
    space = workspace(tmp_path)
    now = snapshot({"d.md": md5("d")}).model_copy(update={"unusable": {"b.md": "cannot be read"}})
    seen = {f"{name}.md": md5(name) for name in "abcd"}
    assert DeletedDocuments(space, now, {"a.md": md5("a")}).among(seen) == ("c.md",)


def test_a_document_that_moved_with_edits_is_not_deleted_until_it_is_under_its_new_path(tmp_path: Path) -> None:
    space, seen = workspace(tmp_path), {"a.md": md5("1"), "c.md": md5("3")}
    now = remember(space, {"a.md": "1", "c.md": "3"}, {"b.md": "1, edited"})
    paths = DocumentPaths(now.documents, former={"a.md": "b.md"})
    assert DeletedDocuments(space, now, (), paths).among(seen) == ("c.md",)
    later = remember(space, {"d.md": "4"})
    assert DeletedDocuments(space, later, (), DocumentPaths(later.documents, former={"a.md": "b.md"})).among(seen) == (
        "a.md",
        "c.md",
    )


def test_source_documents_are_separate_from_other_context(tmp_path: Path) -> None:
    model = BuiltModel(
        base="b",
        adapter="a",
        examples=None,
        settings=None,
        documents={"a.md": "1", "b.md": "2"},
        source_documents=("a.md",),
    )
    nothing_left = DeletedDocuments(workspace(tmp_path), snapshot({"c.md": md5("c")}), ())
    assert deleted_training_documents(model, nothing_left) == ("a.md",)
    assert nothing_left.among(model.documents) == ("a.md", "b.md")


# --- a project with releases ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Releases 1 and 2 have one adapter, trained on answers from Pump and Valve; release 3 has none."""
    root = write_project(tmp_path_factory.mktemp("lineage") / "project", index={"top_k": 3})
    project = Project.open(root, no_progress)
    project.workspace.state.mkdir()
    MlflowClient(tracking_uri=project.workspace.tracking_uri).search_experiments()
    for name in NAMES:
        write(root / f"data/kb/{name}.md", page(name))
    examples = [{"prompt": ASKS.format(name), "completion": "2027-01-01", "doc": f"{name}.md"} for name in NAMES[::2]]
    write(root / "data/train/t.jsonl", "".join(json.dumps(example) + "\n" for example in examples))
    write(root / "data/golden/q.jsonl", json.dumps({"question": "Is Tank 1 old?", "answers": ["2027"]}) + "\n")
    record_snapshot(project.workspace)
    corpus = project.corpus(take_snapshot(project.workspace))
    built = build_index(project.workspace, LoadedEmbedder(project.models.embedder), corpus.knowledge, no_progress)
    model, _ = build_model(project.workspace, project.models, corpus, project.retriever(built), no_progress)
    for released in (model, model, BASE):
        release_of(project, released)
    roll_back(project.registry, "1", "by hand")
    return root


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Home:
    shutil.copytree(template, tmp_path / "project")
    return Home(tmp_path / "project")


def delete(home: Home, *names: str) -> Snapshot:
    for name in names:
        (home.root / f"data/kb/{name}.md").unlink()
    return take_snapshot(home.project.workspace)


def flags(home: Home) -> dict[str, str]:
    """Release -> the value of its flag."""
    workspace = home.project.workspace
    client = MlflowClient(tracking_uri=workspace.tracking_uri, registry_uri=workspace.tracking_uri)
    versions = [client.get_model_version(workspace.params.registry.model, number) for number in ("1", "2", "3")]
    return {str(version.version): version.tags[SAW_DELETED] for version in versions if SAW_DELETED in version.tags}


def now(home: Home) -> Snapshot:
    return take_snapshot(home.project.workspace)


def test_a_model_records_its_context_and_its_source_documents(home: Home) -> None:
    model = home.live.model
    assert model.documents == {f"{name}.md": md5(page(name)) for name in NAMES}
    assert model.source_documents == ("Pump.md", "Valve.md")


def test_lineage_has_releases_examples_and_documents(home: Home) -> None:
    write(home.root / "data/kb/Tank.md", page("Tank", "2031-05-05"))
    lineage = lineage_of(home.project, home.live, delete(home, "Pump"))
    assert lineage.releases == ("1", "2")
    contents = [example.content for example in lineage.examples if example.content]
    assert {(content.where, content.question) for content in contents} == {
        ("t.jsonl:1", ASKS.format("Pump")),
        ("t.jsonl:2", ASKS.format("Valve")),
    }
    assert [(document.name, document.is_source, document.state) for document in lineage.documents] == [
        ("Pump.md", True, DocumentState.DELETED),
        ("Tank.md", False, DocumentState.EDITED),
        ("Valve.md", True, DocumentState.UNCHANGED),
    ]


def test_examples_without_their_file_are_listed_by_digest(home: Home) -> None:
    shutil.rmtree(home.root / ".dvc/cache")
    lineage = lineage_of(home.project, home.live, now(home))
    assert [example.digest for example in lineage.examples] == list(home.live.model.trained_on)
    assert not any(example.content for example in lineage.examples)


def test_sightings_list_the_releases_that_were_trained_with_a_document(home: Home) -> None:
    adapter = str(home.live.model.adapter)
    assert sightings(home.project, "Tank.md") == (
        Sighting("1", adapter, is_live=True, is_source=False),
        Sighting("2", adapter, is_live=False, is_source=False),
    )
    assert all(sighting.is_source for sighting in sightings(home.project, "Pump.md"))
    assert sightings(home.project, "unknown.md") == ()


def test_a_release_is_found_by_its_adapter_and_is_else_the_live_one(home: Home) -> None:
    adapter = str(home.live.model.adapter)
    assert release_with_adapter(home.project, adapter).id == "2"
    assert release_with_adapter(home.project, None).id == "1"
    with pytest.raises(UserError, match=f"'other'.*{adapter}"):
        release_with_adapter(home.project, "other")


def test_a_release_without_adapter_has_no_lineage(home: Home) -> None:
    bare = home.project.registry.release("3")
    with pytest.raises(UserError, match="release 3 has no adapter"):
        lineage_of(home.project, bare, now(home))


def test_without_a_release_there_is_no_lineage(tmp_path: Path) -> None:
    project = Project.open(write_project(tmp_path / "new"), no_progress)
    with pytest.raises(UserError, match="nothing is live yet"):
        release_with_adapter(project, None)
    with pytest.raises(UserError, match="none yet"):
        release_with_adapter(project, "a1")


# --- flags ---------------------------------------------------------------------------------------------------------


def flagged(home: Home, snapshot: Snapshot, releases: list[Release]) -> dict[str, str]:
    flag_releases(home.project, releases, DeletedDocuments(home.project.workspace, snapshot, ()))
    return flags(home)


def test_every_release_trained_with_a_deleted_document_is_flagged_for_good(home: Home) -> None:
    releases = home.project.registry.releases()
    assert flagged(home, now(home), releases) == {}
    assert flagged(home, delete(home, "Tank"), releases) == {"1": "`Tank.md`", "2": "`Tank.md`"}
    write(home.root / "data/kb/Tank.md", page("Tank"))
    assert set(flagged(home, now(home), releases)) == {"1", "2"}


@pytest.mark.parametrize(
    ("signals", "checked"),
    [
        ({"changes": UNCHANGED, "delta": UNMOVED}, ["1"]),
        ({"changes": ChangeSet(before="s0", after="s1", removed=("b.md",)), "delta": UNMOVED}, ["1", "2", "3"]),
        ({"changes": UNCHANGED, "delta": delta(documents_deleted=1)}, ["1", "2", "3"]),
    ],
    ids=["nothing deleted", "removed", "deleted from the index"],
)
def test_all_releases_are_checked_where_documents_are_deleted(
    signals: dict[str, object], checked: list[str], home: Home
) -> None:
    assert [release.id for release in releases_to_flag(home.project, evidence(**signals))] == checked


def test_deleted_seen_documents_exclude_pending_deletions(home: Home) -> None:
    model, project = home.live.model, home.project
    assert deleted_seen_documents(project, model, now(home)) == ()
    assert deleted_seen_documents(project, model, delete(home, "Pump")) == ("Pump.md",)
    strict = project.workspace.params.deletion_guard.model_copy(
        update={"max_removed_documents": 0, "max_removed_share": 0.0}
    )
    params = project.workspace.params.model_copy(update={"deletion_guard": strict})
    held = Project(Workspace(home.root, params), project.models, project.registry, no_progress)
    assert deleted_seen_documents(held, model, now(home)) == ()
