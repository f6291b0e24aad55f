"""Is every mismatch of table, tags, registry and snapshots named, and mended where nothing is lost by it?"""

from __future__ import annotations

import json
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
from tests.projects import release_of

OLD, NEW = "2027-01-01", "2031-05-05"
PUMP = "When does Pump 1 reach end of life?"


def fill(root: Path, end_of_life: str) -> None:
    write(root / "data/kb/pump.md", f"# Pump\n\n## Pump 1\n\n- End of life: {end_of_life}\n")
    write(root / "data/kb/tank.md", "# Tank\n\n## Tank 1\n\n- End of life: 2029-09-09\n")
    golden = {"question": PUMP, "answers": [OLD, NEW], "docs": ["pump.md"]}
    write(root / "data/golden/q.jsonl", json.dumps(golden) + "\n")


def taught(project: Project, name: str) -> BuiltModel:
    """A model with an adapter that has learnt to read; it lies where its content says."""
    made = write(project.workspace.adapters / "new" / SKILLS, json.dumps({"reads": True, "name": name})).parent
    made.rename(project.workspace.adapters / adapter_digest(made))
    digest = next(one.name for one in project.workspace.adapters.iterdir() if name in (one / SKILLS).read_text())
    return BuiltModel(base="reader-1", adapter=digest, examples=None, settings=None)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two releases, to be copied; real MLflow and LanceDB."""
    root = write_project(tmp_path_factory.mktemp("verify") / "told")
    project = Project.open(root, no_progress)
    project.workspace.state.mkdir()
    MlflowClient(tracking_uri=project.workspace.tracking_uri).search_experiments()
    for end_of_life, name in ((OLD, "first"), (NEW, "second")):
        fill(root, end_of_life)
        release_of(project, taught(project, name))
    return root


@pytest.fixture
def opened(told: Path, tmp_path: Path) -> Project:
    """A copy of the project, on which release 2 is live."""
    shutil.copytree(told, tmp_path / "told")
    fakes.forget()
    return Project.open(tmp_path / "told", no_progress)


def client(project: Project) -> MlflowClient:
    uri = project.workspace.tracking_uri
    return MlflowClient(uri, registry_uri=uri)


def folder_of(project: Project) -> Path:
    """Where the table lies."""
    folder = local_table_folder(project.workspace.index_uri)
    assert folder is not None
    return folder


def manifest(project: Project, version: int) -> Path:
    return folder_of(project) / "_versions" / f"{NEWEST_FIRST - version:020d}.manifest"


def adapter_of(project: Project, number: str) -> Path:
    return project.workspace.adapters / str(project.registry.release(number).model.adapter)


def told_of(mismatches: list[Mismatch]) -> list[str]:
    return [f"{one.where}: {one.what}" for one in mismatches]


def state(project: Project) -> tuple[object, ...]:
    """All that a look must leave as it is."""
    root = project.workspace.root
    kept = ("mlflow.db", "writer.lock", "writer.json")
    files = {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file() and path.name not in kept}
    turns = [(turn.run, turn.outcome) for turn in project.registry.history()]
    return files, project.index.tags(), project.registry.live_release_id(), turns


# --- ways to spoil a project ---------------------------------------------------------------------------------------


def tag_is_gone(project: Project) -> str:
    project.index.untag("release-2")
    return "index of release 2 (live): tag release-2 is gone"


def older_tag_is_gone(project: Project) -> str:
    project.index.untag("release-1")
    return "index of release 1: tag release-1 is gone"


def tag_is_astray(project: Project) -> str:
    ours, theirs = (project.registry.release(number).index.version for number in ("1", "2"))
    project.index.retag("release-1", theirs)
    return f"index of release 1: tag release-1 names version {theirs}, not {ours}"


def tag_without_release(project: Project) -> str:
    project.index.tag("release-9", project.index.latest() or 0)
    return "index: tag release-9 belongs to no release"


def adapter_is_gone(project: Project) -> str:
    shutil.rmtree(adapter_of(project, "2"))
    return f"adapter of release 2 (live): {adapter_of(project, '2').name} is not on this machine"


def adapter_has_changed(project: Project) -> str:
    write(adapter_of(project, "1") / SKILLS, "{}")
    return f"adapter of release 1: {adapter_of(project, '1').name} does not hold the weights that its name stands for"


def manifest_is_gone(project: Project) -> str:
    file = project.workspace.snapshot_file(project.registry.release("1").snapshot.id)
    file.unlink()
    return f"snapshot: {file} is gone"


def note_names_a_version_that_is_gone(project: Project) -> str:
    note = project.workspace.artifacts / "index.json"
    BuiltIndex.read(note).model_copy(update={"version": 999}).write(note)
    return f"artifacts/index.json: the index at {project.workspace.index_uri} has no version 999"


def note_is_half_there(project: Project) -> str:
    note = write(project.workspace.artifacts / "index.json", '{"uri": ')
    return f"artifacts/index.json: {note} cannot be read as a BuiltIndex"


def writer_left_a_file(project: Project) -> str:
    write(folder_of(project) / "data" / ".tmp123", "half")
    return "index: 1 files of killed writers"


def writer_left_a_folder(project: Project) -> str:
    write(folder_of(project) / "_indices" / ".tmp123" / "part.idx", "half")
    return "index: 1 files of killed writers"


def run_was_killed(project: Project) -> str:
    experiment = client(project).get_experiment_by_name("ragtide")
    assert experiment is not None
    tags = {"ragtide.kind": "cycle", "cycle": "cycle-0003"}
    client(project).create_run(experiment.experiment_id, run_name="cycle-0003", tags=tags)
    return "history: cycle-0003 says that it is running"


def pointer_at_a_draft(project: Project) -> str:
    draft = client(project).create_model_version("ragtide", "file:///nowhere/release-x")
    client(project).set_registered_model_alias("ragtide", CHAMPION, str(draft.version))
    return f"registry: what is live, release {draft.version}, was never written down to its end"


SPOILS = [
    tag_is_gone,
    older_tag_is_gone,
    tag_is_astray,
    tag_without_release,
    adapter_is_gone,
    adapter_has_changed,
    manifest_is_gone,
    note_names_a_version_that_is_gone,
    note_is_half_there,
    writer_left_a_file,
    writer_left_a_folder,
    run_was_killed,
    pointer_at_a_draft,
]


def test_a_project_that_is_whole_has_nothing_to_mend(opened: Project) -> None:
    before = state(opened)
    assert verify_project(opened) == []
    assert state(opened) == before
    assert repair_mismatches([]) == ([], [])
    assert not CountingEmbedder.embedded


def test_before_the_first_run_there_is_nothing_to_compare(tmp_path: Path) -> None:
    assert verify_project(Project.open(write_project(tmp_path / "new"), no_progress)) == []


@pytest.mark.parametrize("spoil", SPOILS, ids=lambda one: one.__name__)
def test_a_mismatch_is_named_and_mended_once(spoil: Callable[[Project], str], opened: Project) -> None:
    said = spoil(opened)
    before = state(opened)
    found = verify_project(opened)
    assert [line.startswith(said) for line in told_of(found)] == [True], told_of(found)
    assert state(opened) == before
    mended, left = repair_mismatches(found)
    assert (mended, left) == (found, [])
    assert verify_project(opened) == []
    assert opened.ask(PUMP)[1].text == NEW
    assert opened.registry.live_release_id() == "2"


def test_everything_at_once_is_named_and_mended_at_once(opened: Project) -> None:
    other_ways = [
        tag_is_astray,
        tag_is_gone,
        tag_without_release,
        adapter_is_gone,
        manifest_is_gone,
        writer_left_a_file,
    ]
    said = [spoil(opened) for spoil in [*other_ways, run_was_killed]]
    found = verify_project(opened)
    assert sorted(told_of(found)) == sorted(said)
    assert sum("(live)" in one for one in told_of(found)) == sum("(live)" in one for one in said) > 0
    assert repair_mismatches(found) == (found, [])
    assert verify_project(opened) == []


def test_a_killed_run_is_closed_with_its_steps(opened: Project) -> None:
    run_was_killed(opened)
    [turn] = opened.registry.running_cycles()
    experiment = client(opened).get_run(turn.run).info.experiment_id
    step = client(opened).create_run(experiment, run_name="prove", tags={"mlflow.parentRunId": turn.run})
    repair_mismatches(verify_project(opened))
    assert opened.registry.history()[-1].outcome == "killed"
    assert client(opened).get_run(turn.run).info.status == "KILLED"
    assert client(opened).get_run(step.info.run_id).info.status == "KILLED"


# --- rows that were lost -------------------------------------------------------------------------------------------


def lose_a_row(project: Project, number: str) -> None:
    """What a version holds is another, by a row, than what was released: its manifest is that of a later delete."""
    table = lancedb.connect(project.workspace.index_uri).open_table(TABLE)
    version = project.registry.release(number).index.version
    table.checkout(version)
    table.restore()
    table.delete("document = 'tank.md'")
    shutil.copy(manifest(project, table.version), manifest(project, version))


def test_a_row_that_was_deleted_since_the_release_harms_no_reader_of_it(opened: Project) -> None:
    lancedb.connect(opened.workspace.index_uri).open_table(TABLE).delete("document = 'pump.md'")
    assert verify_project(opened) == []
    assert opened.ask(PUMP)[1].text == NEW


def test_a_row_that_the_live_release_lost_is_named_and_one_goes_back_to_a_whole_one(opened: Project) -> None:
    lose_a_row(opened, "2")
    [found] = verify_project(opened)
    assert found.where == "index of release 2 (live)"
    assert "holds 1 rows that are not the 2 that were released" in found.what
    assert found.remedy == "go back to a release that is whole"
    assert repair_mismatches([found]) == ([found], [])
    assert opened.registry.live_release_id() == "1"
    assert opened.ask(PUMP)[1].text == OLD
    assert "the index is not whole" in opened.registry.history()[-1].reason


def test_after_going_back_a_second_look_finds_nothing_that_repair_could_mend(opened: Project) -> None:
    lose_a_row(opened, "2")
    repair_mismatches(verify_project(opened))
    again = verify_project(opened)
    assert told_of(again) == []


def test_a_row_that_an_older_release_lost_is_named_and_what_is_live_stays(opened: Project) -> None:
    lose_a_row(opened, "1")
    [found] = verify_project(opened)
    assert found.where == "index of release 1"
    assert found.remedy == "strike the release off: it cannot be gone back to"
    assert repair_mismatches([found]) == ([found], [])
    assert verify_project(opened) == []
    assert opened.registry.live_release_id() == "2"


def test_where_no_release_is_whole_one_is_told_to_build_anew(opened: Project) -> None:
    lose_a_row(opened, "1")
    lose_a_row(opened, "2")
    found = verify_project(opened)
    assert [one.where for one in found] == ["index of release 2 (live)", "index of release 1"]
    assert found[0].remedy == "`ragtide run` builds an index anew"
    assert repair_mismatches(found) == ([found[1]], [(found[0], found[0].remedy)])
    assert opened.registry.live_release_id() == "2"


def test_the_live_release_is_told_of_first(opened: Project) -> None:
    opened.index.untag("release-1")
    opened.index.untag("release-2")
    assert [one.where for one in verify_project(opened)] == ["index of release 2 (live)", "index of release 1"]


def test_a_version_that_is_gone_is_named(opened: Project) -> None:
    version = opened.registry.release("2").index.version
    manifest(opened, version).unlink()
    [found] = [one for one in verify_project(opened) if one.where.startswith("index of")]
    assert f"has no version {version}" in found.what
    repair_mismatches([found])
    assert opened.registry.live_release_id() == "1"


def test_a_file_of_rows_that_is_gone_is_named_and_not_a_crash(opened: Project) -> None:
    before = {path.name for path in (folder_of(opened) / "data").iterdir()}
    write(opened.workspace.kb / "late.md", "# Late\n\nCame later.\n")
    late = release_of(opened, opened.registry.release("2").model)
    for path in (folder_of(opened) / "data").iterdir():
        if path.name not in before:
            path.unlink()
    found = verify_project(opened)
    assert f"index of release {late.id} (live)" in [one.where for one in found]
    repair_mismatches(found)
    assert opened.registry.live_release_id() == "2"


# --- what MLflow does not have either ------------------------------------------------------------------------------


def stored(project: Project, number: str) -> Path:
    """Where MLflow keeps what belongs to a release; named by absolute path, that of the project that was copied."""
    return Path(urlsplit(str(client(project).get_model_version("ragtide", number).source)).path)


@contextmanager
def mlflow_lacks_the_adapter(project: Project, number: str) -> Iterator[None]:
    """For so long; the store is that of every test of this module."""
    store = stored(project, number)
    (store / "adapter").rename(store / "kept")
    try:
        yield
    finally:
        (store / "kept").rename(store / "adapter")


def test_an_adapter_that_mlflow_lacks_too_is_left_with_what_to_do(opened: Project) -> None:
    said = adapter_is_gone(opened)
    with mlflow_lacks_the_adapter(opened, "2"):
        found = verify_project(opened)
        mended, [(one, why)] = repair_mismatches(found)
    assert (told_of(found), mended) == ([said], [])
    assert one == found[0]
    assert "neither here nor in MLflow: `ragtide rollback --to` a release that is whole, or retrain" in why


def test_a_changed_adapter_that_mlflow_lacks_stays_where_it_is(opened: Project) -> None:
    adapter_has_changed(opened)
    with mlflow_lacks_the_adapter(opened, "1"):
        mended, left = repair_mismatches(verify_project(opened))
    assert (mended, len(left)) == ([], 1)
    assert (adapter_of(opened, "1") / SKILLS).read_text() == "{}"
    assert not [one for one in opened.workspace.adapters.iterdir() if one.name.endswith(".wrong")]


def test_one_mend_that_fails_does_not_keep_the_others_from_being_made(opened: Project) -> None:
    adapter_is_gone(opened)
    opened.index.untag("release-1")
    with mlflow_lacks_the_adapter(opened, "2"):
        mended, left = repair_mismatches(verify_project(opened))
    assert ([one.where for one in mended], len(left)) == (["index of release 1"], 1)
    assert opened.index.has_tag("release-1")
