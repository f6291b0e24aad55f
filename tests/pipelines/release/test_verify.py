"""Tests of `ragtide verify`: every mismatch of index, tags, registry and snapshots is named and safely repaired."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import lancedb
import pytest
from mlflow.tracking import MlflowClient

from ragtide.pipelines.index.fingerprint import NEWEST_FIRST, TABLE, local_table_folder
from ragtide.pipelines.models.adapters import adapter_digest
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.release import BuiltIndex, BuiltModel
from ragtide.pipelines.registry.releases import CHAMPION
from ragtide.pipelines.release.verify import Mismatch, repair_mismatches, verify_project
from tests import fakes
from tests.conftest import write_project
from tests.factories import write
from tests.fakes import SKILLS, CountingEmbedder
from tests.projects import mlflow_client, release_of

OLD, NEW = "2027-01-01", "2031-05-05"
# Where a mismatch must be, and fragments that its description must have.
Expected = tuple[str, ...]
PUMP = "When does Pump 1 reach end of life?"


def fill(root: Path, end_of_life: str) -> None:
    write(root / "data/kb/pump.md", f"# Pump\n\n## Pump 1\n\n- End of life: {end_of_life}\n")
    write(root / "data/kb/tank.md", "# Tank\n\n## Tank 1\n\n- End of life: 2029-09-09\n")
    golden = {"question": PUMP, "answers": [OLD, NEW], "docs": ["pump.md"]}
    write(root / "data/golden/q.jsonl", json.dumps(golden) + "\n")


def trained(project: Project, name: str) -> BuiltModel:
    """A model with an adapter that answers from the context, stored under its digest."""
    made = write(project.workspace.adapters / "new" / SKILLS, json.dumps({"reads": True, "name": name})).parent
    made.rename(project.workspace.adapters / adapter_digest(made))
    digest = next(
        folder.name for folder in project.workspace.adapters.iterdir() if name in (folder / SKILLS).read_text()
    )
    return BuiltModel(base="reader-1", adapter=digest, examples=None, settings=None)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two releases, to be copied; real MLflow and LanceDB."""
    root = write_project(tmp_path_factory.mktemp("verify") / "project")
    project = Project.open(root, no_progress)
    project.workspace.state.mkdir()
    MlflowClient(tracking_uri=project.workspace.tracking_uri).search_experiments()
    for end_of_life, name in ((OLD, "first"), (NEW, "second")):
        fill(root, end_of_life)
        release_of(project, trained(project, name))
    return root


@pytest.fixture
def opened(template: Path, tmp_path: Path) -> Project:
    """A copy of the project, on which release 2 is live."""
    shutil.copytree(template, tmp_path / "project")
    fakes.forget()
    return Project.open(tmp_path / "project", no_progress)


def folder_of(project: Project) -> Path:
    """The folder of the index table."""
    folder = local_table_folder(project.workspace.index_uri)
    assert folder is not None
    return folder


def manifest(project: Project, version: int) -> Path:
    return folder_of(project) / "_versions" / f"{NEWEST_FIRST - version:020d}.manifest"


def adapter_of(project: Project, number: str) -> Path:
    return project.workspace.adapters / str(project.registry.release(number).model.adapter)


def described(mismatches: list[Mismatch]) -> list[tuple[str, str]]:
    return [(mismatch.where, mismatch.what) for mismatch in mismatches]


def matches(mismatch: Mismatch, expected: Expected) -> bool:
    """Whether a mismatch is at this place and its description has all of these fragments."""
    where, *fragments = expected
    return mismatch.where == where and all(fragment in mismatch.what for fragment in fragments)


def state(project: Project) -> tuple[object, ...]:
    """Everything that verification must leave unchanged."""
    root = project.workspace.root
    kept = ("mlflow.db", "writer.lock", "writer.json")
    files = {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file() and path.name not in kept}
    cycles = [(cycle.run, cycle.outcome) for cycle in project.registry.history()]
    return files, project.index.tags(), project.registry.live_release_id(), cycles


# --- damages -------------------------------------------------------------------------------------------------------


def tag_is_missing(project: Project) -> Expected:
    project.index.untag("release-2")
    return "index of release 2 (live)", "release-2"


def older_tag_is_missing(project: Project) -> Expected:
    project.index.untag("release-1")
    return "index of release 1", "release-1"


def tag_names_another_version(project: Project) -> Expected:
    ours, theirs = (project.registry.release(number).index.version for number in ("1", "2"))
    project.index.retag("release-1", theirs)
    return "index of release 1", "release-1", f"version {theirs}", str(ours)


def tag_without_release(project: Project) -> Expected:
    project.index.tag("release-9", project.index.latest() or 0)
    return "index", "release-9"


def adapter_is_missing(project: Project) -> Expected:
    name = adapter_of(project, "2").name
    shutil.rmtree(adapter_of(project, "2"))
    return "adapter of release 2 (live)", name, "not on this machine"


def adapter_has_changed(project: Project) -> Expected:
    write(adapter_of(project, "1") / SKILLS, "{}")
    return "adapter of release 1", adapter_of(project, "1").name, "weights"


def manifest_is_missing(project: Project) -> Expected:
    file = project.workspace.snapshot_file(project.registry.release("1").snapshot.id)
    file.unlink()
    return "snapshot", str(file)


def artifact_names_a_missing_version(project: Project) -> Expected:
    file = project.workspace.artifacts / "index.json"
    BuiltIndex.read(file).model_copy(update={"version": 999}).write(file)
    return "artifacts/index.json", "999"


def artifact_is_truncated(project: Project) -> Expected:
    file = write(project.workspace.artifacts / "index.json", '{"uri": ')
    return "artifacts/index.json", f"{file} cannot be read"


def writer_left_a_file(project: Project) -> Expected:
    write(folder_of(project) / "data" / ".tmp123", "half")
    return "index", "1 unfinished files"


def writer_left_a_folder(project: Project) -> Expected:
    write(folder_of(project) / "_indices" / ".tmp123" / "part.idx", "half")
    return "index", "1 unfinished files"


def run_was_killed(project: Project) -> Expected:
    experiment = mlflow_client(project.workspace).get_experiment_by_name("ragtide")
    assert experiment is not None
    tags = {"ragtide.kind": "cycle", "cycle": "cycle-0003"}
    mlflow_client(project.workspace).create_run(experiment.experiment_id, run_name="cycle-0003", tags=tags)
    return "history", "cycle-0003"


def pointer_at_a_draft(project: Project) -> Expected:
    draft = mlflow_client(project.workspace).create_model_version("ragtide", "file:///nowhere/release-x")
    mlflow_client(project.workspace).set_registered_model_alias("ragtide", CHAMPION, str(draft.version))
    return "registry", f"release {draft.version}"


DAMAGES = [
    tag_is_missing,
    older_tag_is_missing,
    tag_names_another_version,
    tag_without_release,
    adapter_is_missing,
    adapter_has_changed,
    manifest_is_missing,
    artifact_names_a_missing_version,
    artifact_is_truncated,
    writer_left_a_file,
    writer_left_a_folder,
    run_was_killed,
    pointer_at_a_draft,
]


def test_an_intact_project_has_no_mismatch(opened: Project) -> None:
    before = state(opened)
    assert verify_project(opened) == []
    assert state(opened) == before
    assert repair_mismatches([]) == ([], [])
    assert not CountingEmbedder.embedded


def test_a_new_project_has_no_mismatch(tmp_path: Path) -> None:
    assert verify_project(Project.open(write_project(tmp_path / "new"), no_progress)) == []


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_mismatch_is_named_and_repaired_once(damage: Callable[[Project], Expected], opened: Project) -> None:
    expected = damage(opened)
    before = state(opened)
    mismatches = verify_project(opened)
    assert [matches(mismatch, expected) for mismatch in mismatches] == [True], described(mismatches)
    assert state(opened) == before
    assert repair_mismatches(mismatches) == (mismatches, [])
    assert verify_project(opened) == []
    assert opened.ask(PUMP)[1].text == NEW
    assert opened.registry.live_release_id() == "2"


def test_several_mismatches_are_named_and_repaired_together(opened: Project) -> None:
    damages = [
        tag_names_another_version,
        tag_is_missing,
        tag_without_release,
        adapter_is_missing,
        manifest_is_missing,
        writer_left_a_file,
    ]
    expected = [damage(opened) for damage in [*damages, run_was_killed]]
    mismatches = verify_project(opened)
    assert len(mismatches) == len(expected)
    assert all(any(matches(mismatch, damage) for mismatch in mismatches) for damage in expected)
    assert repair_mismatches(mismatches) == (mismatches, [])
    assert verify_project(opened) == []


def test_a_killed_run_is_closed_with_its_steps(opened: Project) -> None:
    run_was_killed(opened)
    [cycle] = opened.registry.running_cycles()
    experiment = mlflow_client(opened.workspace).get_run(cycle.run).info.experiment_id
    step = mlflow_client(opened.workspace).create_run(
        experiment, run_name="prove", tags={"mlflow.parentRunId": cycle.run}
    )
    repair_mismatches(verify_project(opened))
    assert opened.registry.history()[-1].outcome == "killed"
    assert mlflow_client(opened.workspace).get_run(cycle.run).info.status == "KILLED"
    assert mlflow_client(opened.workspace).get_run(step.info.run_id).info.status == "KILLED"


# --- lost rows -----------------------------------------------------------------------------------------------------


def lose_a_row(project: Project, number: str) -> None:
    """Remove a row from a released version, by giving it the manifest of a later version without that row."""
    table = lancedb.connect(project.workspace.index_uri).open_table(TABLE)
    version = project.registry.release(number).index.version
    table.checkout(version)
    table.restore()
    table.delete("document = 'tank.md'")
    shutil.copy(manifest(project, table.version), manifest(project, version))


def test_a_row_deleted_in_a_later_version_is_no_mismatch(opened: Project) -> None:
    lancedb.connect(opened.workspace.index_uri).open_table(TABLE).delete("document = 'pump.md'")
    assert verify_project(opened) == []
    assert opened.ask(PUMP)[1].text == NEW


def test_a_lost_row_of_the_live_release_is_repaired_by_rollback(opened: Project) -> None:
    lose_a_row(opened, "2")
    [mismatch] = verify_project(opened)
    assert mismatch.where == "index of release 2 (live)"
    assert re.search(r"\b1 rows.* 2 rows", mismatch.what)
    assert repair_mismatches([mismatch]) == ([mismatch], [])
    assert opened.registry.live_release_id() == "1"
    assert opened.ask(PUMP)[1].text == OLD
    assert "ragtide verify --repair" in opened.registry.history()[-1].reason


def test_after_the_rollback_a_second_check_finds_nothing(opened: Project) -> None:
    lose_a_row(opened, "2")
    repair_mismatches(verify_project(opened))
    assert described(verify_project(opened)) == []


def test_an_earlier_release_with_a_lost_row_is_marked_and_the_live_one_stays(opened: Project) -> None:
    lose_a_row(opened, "1")
    [mismatch] = verify_project(opened)
    assert mismatch.where == "index of release 1"
    assert "damaged" in mismatch.remedy
    assert repair_mismatches([mismatch]) == ([mismatch], [])
    assert verify_project(opened) == []
    assert opened.registry.live_release_id() == "2"


def test_without_an_intact_release_the_remedy_is_a_rebuild(opened: Project) -> None:
    lose_a_row(opened, "1")
    lose_a_row(opened, "2")
    mismatches = verify_project(opened)
    assert [mismatch.where for mismatch in mismatches] == ["index of release 2 (live)", "index of release 1"]
    assert "ragtide run" in mismatches[0].remedy
    assert repair_mismatches(mismatches) == ([mismatches[1]], [(mismatches[0], mismatches[0].remedy)])
    assert opened.registry.live_release_id() == "2"


def test_the_live_release_is_listed_first(opened: Project) -> None:
    opened.index.untag("release-1")
    opened.index.untag("release-2")
    assert [mismatch.where for mismatch in verify_project(opened)] == [
        "index of release 2 (live)",
        "index of release 1",
    ]


def test_a_missing_version_is_named(opened: Project) -> None:
    version = opened.registry.release("2").index.version
    manifest(opened, version).unlink()
    [mismatch] = [mismatch for mismatch in verify_project(opened) if mismatch.where.startswith("index of")]
    assert f"has no version {version}" in mismatch.what
    repair_mismatches([mismatch])
    assert opened.registry.live_release_id() == "1"


def test_a_missing_data_file_is_named(opened: Project) -> None:
    before = {path.name for path in (folder_of(opened) / "data").iterdir()}
    write(opened.workspace.kb / "late.md", "# Late\n\nCame later.\n")
    late = release_of(opened, opened.registry.release("2").model)
    for path in (folder_of(opened) / "data").iterdir():
        if path.name not in before:
            path.unlink()
    mismatches = verify_project(opened)
    assert f"index of release {late.id} (live)" in [mismatch.where for mismatch in mismatches]
    repair_mismatches(mismatches)
    assert opened.registry.live_release_id() == "2"


# --- adapters that MLflow lacks ------------------------------------------------------------------------------------


def stored(project: Project, number: str) -> Path:
    """MLflow's artifact folder of a release, by absolute path: that of the project from which this one was copied."""
    return Path(urlsplit(str(mlflow_client(project.workspace).get_model_version("ragtide", number).source)).path)


@contextmanager
def mlflow_lacks_the_adapter(project: Project, number: str) -> Iterator[None]:
    """Hide the adapter for a while; all tests of this module share the artifact store."""
    store = stored(project, number)
    (store / "adapter").rename(store / "kept")
    try:
        yield
    finally:
        (store / "kept").rename(store / "adapter")


def test_an_adapter_that_mlflow_lacks_remains_with_a_remedy(opened: Project) -> None:
    expected = adapter_is_missing(opened)
    with mlflow_lacks_the_adapter(opened, "2"):
        mismatches = verify_project(opened)
        repaired, [(mismatch, reason)] = repair_mismatches(mismatches)
    assert repaired == []
    assert [mismatch] == mismatches
    assert matches(mismatch, expected)
    assert "ragtide rollback --to" in reason


def test_a_changed_adapter_that_mlflow_lacks_stays_in_place(opened: Project) -> None:
    adapter_has_changed(opened)
    with mlflow_lacks_the_adapter(opened, "1"):
        repaired, remaining = repair_mismatches(verify_project(opened))
    assert (repaired, len(remaining)) == ([], 1)
    assert (adapter_of(opened, "1") / SKILLS).read_text() == "{}"
    assert not [folder for folder in opened.workspace.adapters.iterdir() if folder.name.endswith(".damaged")]


def test_a_failed_repair_does_not_prevent_the_others(opened: Project) -> None:
    adapter_is_missing(opened)
    opened.index.untag("release-1")
    with mlflow_lacks_the_adapter(opened, "2"):
        repaired, remaining = repair_mismatches(verify_project(opened))
    assert ([mismatch.where for mismatch in repaired], len(remaining)) == (["index of release 1"], 1)
    assert opened.index.has_tag("release-1")
