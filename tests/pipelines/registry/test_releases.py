"""What does MLflow hold, and does a look at it change nothing? Real MLflow on sqlite, below the test's own folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from ragtide.pipelines.errors import UnavailableError, UserError
from ragtide.pipelines.history.history import (
    ACTION_SECONDS,
    CHANGED_SHARE,
    EXPECTED_POINTS,
    FORECAST_SECONDS,
    LIVE_SCORE,
    SHIFT,
    live_since,
    past_decisions,
)
from ragtide.pipelines.records.release import BuiltIndex, BuiltModel, Release
from ragtide.pipelines.registry.releases import CHAMPION, Registry
from ragtide.pipelines.registry.runs import DvcSource, RunLog
from ragtide.pipelines.workspace import Workspace
from tests.factories import md5, release, snapshot, workspace, write

NOBODY_THERE = "http://127.0.0.1:9"
ADAPTER = "0123456789ab"


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables and nothing in it: making one takes seconds, a copy none."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def space(tables: Path, tmp_path: Path) -> Workspace:
    """A project whose database is there, and empty."""
    made = workspace(tmp_path)
    made.state.mkdir()
    shutil.copy(tables, made.state / "mlflow.db")
    return made


@pytest.fixture
def registry(space: Workspace) -> Registry:
    return Registry(space)


def client(space: Workspace) -> MlflowClient:
    return MlflowClient(tracking_uri=space.tracking_uri, registry_uri=space.tracking_uri)


def run_of(space: Workspace, log: RunLog) -> Run:
    return client(space).get_run(log.id)


def finished(registry: Registry, **fields: Any) -> Release:
    """A release that is written down in a cycle of its own; nobody points at it."""
    with registry.cycle() as log:
        draft = registry.draft(log)
        made = release(int(draft.id), **fields)
        registry.describe(made, draft, log)
    return made


def unfinished(registry: Registry) -> str:
    """A number that was taken by a run that was killed right after."""
    with registry.cycle() as log:
        return registry.draft(log).id


def with_adapter(registry: Registry, folder: Path) -> Release:
    """A release with the adapter of `folder` in the artifact store."""
    with registry.cycle() as log:
        model = BuiltModel(base="base", adapter=ADAPTER, examples="x", settings="s")
        draft = registry.draft(log)
        made = release(int(draft.id), model=model)
        log.folder(f"{draft.folder}/adapter", folder)
        registry.describe(made, draft, log)
    return made


# --- looking -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "look",
    [
        Registry.history,
        Registry.champion,
        Registry.releases,
        Registry.pointed_at,
        Registry.unfinished,
        lambda registry: registry.exists,
    ],
)
def test_looking_creates_no_database(look: Callable[[Registry], object], tmp_path: Path) -> None:
    before = set(tmp_path.rglob("*"))
    space = workspace(tmp_path / "project")
    assert not look(Registry(space))
    assert not space.state.exists()
    assert not {path.name for path in set(tmp_path.rglob("*")) - before} & {"mlflow.db", "mlruns"}


def test_whoever_opens_a_new_database_waits_for_the_one_who_makes_its_tables(tmp_path: Path) -> None:
    space = workspace(tmp_path / "new")
    database = space.state / "mlflow.db"
    database.parent.mkdir(parents=True, exist_ok=True)
    making = FileLock(f"{database}.lock")
    with ThreadPoolExecutor(1) as pool:
        with making:
            asked = pool.submit(lambda: Registry(space).experiment)
            with pytest.raises(TimeoutError):
                asked.result(timeout=1)
            assert not database.exists()
        assert asked.result(timeout=60)


def test_an_experiment_that_another_has_made_since_one_looked_is_taken(
    registry: Registry, space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = registry.experiment
    looks = iter([None])
    known = MlflowClient.get_experiment_by_name

    def late(client: MlflowClient, name: str) -> object:
        return next(looks, known(client, name))

    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", late)
    assert Registry(space).experiment == made


@pytest.mark.parametrize("happened", [lambda registry: None, unfinished, finished])
def test_nothing_is_live_before_the_pointer_first_moved(
    happened: Callable[[Registry], object], registry: Registry
) -> None:
    happened(registry)
    assert registry.exists
    assert registry.champion() is None


@pytest.mark.parametrize("look", [Registry.champion, Registry.history, Registry.releases, Registry.pointed_at])
def test_a_store_that_is_away_is_not_taken_for_a_project_without_a_release(
    look: Callable[[Registry], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    away = Registry(workspace(tmp_path, registry={"tracking_uri": NOBODY_THERE}))
    assert away.exists
    with pytest.raises(UnavailableError, match="does not answer as it should") as refusal:
        look(away)
    assert "\n" not in str(refusal.value)


def test_two_projects_on_one_server_do_not_see_each_other(
    tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shared = f"sqlite:///{shutil.copy(tables, tmp_path / 'shared.db')}"
    ours, theirs = (
        Registry(workspace(tmp_path / name, registry={"tracking_uri": shared, "experiment": name, "model": name}))
        for name in ("ours", "theirs")
    )
    ours.point(finished(ours))
    assert len(ours.history()) == 1
    assert theirs.history() == []
    assert theirs.champion() is None


# --- runs ----------------------------------------------------------------------------------------------------------


def test_turns_are_numbered_and_told_oldest_first(registry: Registry) -> None:
    for _ in range(3):
        with registry.cycle():
            pass
    assert [cycle.name for cycle in registry.history()] == ["cycle-0001", "cycle-0002", "cycle-0003"]


def test_a_step_stands_below_its_turn_and_is_no_turn_of_its_own(registry: Registry, space: Workspace) -> None:
    with registry.cycle() as cycle, registry.step("decide", cycle) as step:
        pass
    run = run_of(space, step)
    assert run.data.tags["mlflow.parentRunId"] == cycle.id
    assert (run.info.run_name, run.info.status) == ("decide", "FINISHED")
    assert [turn.run for turn in registry.history()] == [cycle.id]


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (UserError("the kb is empty"), "the kb is empty"),
        (ValueError("over\n  several\tlines"), "over several lines"),
        (TimeoutError(), "TimeoutError"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (ValueError("x" * 9000), "x" * 200),
    ],
)
def test_a_step_that_raises_is_recorded_as_failed_with_its_message(
    problem: BaseException, said: str, registry: Registry, space: Workspace
) -> None:
    with pytest.raises(type(problem)), registry.cycle() as cycle, registry.step("decide", cycle) as step:
        raise problem
    for log in (step, cycle):
        run = run_of(space, log)
        assert (run.info.status, run.data.tags["outcome"]) == ("FAILED", said)
    assert registry.history()[-1].outcome == said


def test_a_step_that_was_tried_again_does_not_fail_its_turn(registry: Registry, space: Workspace) -> None:
    with registry.cycle() as cycle:
        with pytest.raises(ConnectionError), registry.step("decide", cycle) as first:
            raise ConnectionError("away")
        with registry.step("decide", cycle) as second:
            pass
    status = [run_of(space, log).info.status for log in (first, second, cycle)]
    assert status == ["FAILED", "FINISHED", "FINISHED"]


def test_what_was_not_measured_is_left_out_and_never_written_as_nought(registry: Registry, space: Workspace) -> None:
    with registry.cycle() as log:
        log.metrics({"score_before": None, "score_after": 0.0, "n": 3})
    assert run_of(space, log).data.metrics == {"score_after": 0.0, "n": 3.0}
    turn = registry.read(log)
    assert (turn.score_before, turn.score_after) == (None, 0.0)


def test_a_series_keeps_its_steps(registry: Registry, space: Workspace) -> None:
    with registry.cycle() as log:
        log.series("loss", [(0, 3.0), (1, 1.0), (4, 2.0)])
    steps = client(space).get_metric_history(log.id, "loss")
    assert [(one.step, one.value) for one in steps] == [(0, 3.0), (1, 1.0), (4, 2.0)]


def test_settings_are_logged_under_the_names_that_params_yaml_has(registry: Registry, space: Workspace) -> None:
    with registry.cycle() as log:
        log.params(space.params.model_dump(mode="json"))
    logged = run_of(space, log).data.params
    assert logged["policy.points_per_hour"] == str(space.params.policy.points_per_hour)
    assert {key.split(".")[0] for key in logged} == set(type(space.params).model_fields)


def test_the_data_stands_by_its_dvc_hashes(registry: Registry, space: Workspace) -> None:
    data = snapshot({"a.md": md5("a")}, {"t.jsonl": md5("t")})
    with registry.cycle() as log, registry.step("observe", log) as step:
        log.datasets(data)
        step.datasets(data)
    for one in (log, step):
        used_by = run_of(space, one).inputs
        assert used_by is not None
        inputs = {used.dataset.name: used for used in used_by.dataset_inputs}
        digests = {name: used.dataset.digest for name, used in inputs.items()}
        assert digests == {"kb": data.kb_id, "train": data.train_id, "golden": data.golden_id}
        assert {name: used.tags[0].value for name, used in inputs.items()} == {
            "kb": "index",
            "train": "training",
            "golden": "evaluation",
        }


def test_a_dataset_says_which_folder_it_is_and_how_to_get_it_back() -> None:
    source = DvcSource("data/kb", "abc.dir")
    assert DvcSource.from_dict(source.to_dict()).to_dict() == {"folder": "data/kb", "md5": "abc.dir"}
    with pytest.raises(NotImplementedError, match="dvc checkout"):
        source.load()


def test_a_turn_is_read_back_as_it_was_written(registry: Registry) -> None:
    with registry.cycle() as log:
        log.tags({"decision": "REFRESH", "outcome": "released", "reason": "one page is new", "data_rev": "s1"})
        log.tags({"params": "p1", "release": "1"})
        log.metrics({"work.embedded_chunks": 4, "work.index_seconds": 0.5, "index_gap": 0.2, "score_after": 0.9})
    [turn] = registry.history()
    assert (turn.decision, turn.outcome, turn.reason) == ("REFRESH", "released", "one page is new")
    assert (turn.snapshot, turn.params, turn.release, turn.undone) == ("s1", "p1", "1", None)
    assert turn.work == {"embedded_chunks": 4.0, "index_seconds": 0.5}
    assert turn.signals == {"index_gap": 0.2, "score_after": 0.9}
    assert turn.score_after == 0.9


def publish_in_vain(log: RunLog) -> None:
    log.tags({"decision": "RETRAIN"})
    log.metrics({EXPECTED_POINTS: 20, "score_before": 0.6, "score_after": 0.9})
    raise ConnectionError("the store went away")


def test_what_a_turn_expected_and_what_came_of_it_is_found_again(registry: Registry) -> None:
    with registry.cycle() as log:
        log.tags({"decision": "REFRESH", "outcome": "released", "release": "1"})
        log.metrics({EXPECTED_POINTS: 20, FORECAST_SECONDS: 330.5, ACTION_SECONDS: 301.25, LIVE_SCORE: 0.5})
        log.metrics({CHANGED_SHARE: 0.25, SHIFT: None, "score_before": 0.5, "score_after": 0.6, "work.rows": 4})
    with pytest.raises(ConnectionError), registry.cycle() as log:
        publish_in_vain(log)
    with registry.manual_cycle("rollback", {"decision": "ROLLBACK", "undone_release": "1", "outcome": "rolled_back"}):
        pass
    with registry.cycle() as log:
        log.tags({"decision": "HOLD", "outcome": "held"})
    refreshed, held = past_decisions(registry.history())
    assert (refreshed.expected_points, refreshed.recovered_points) == (20, 10)
    assert (refreshed.forecast_seconds, refreshed.seconds) == (330.5, 301.25)
    assert (refreshed.score, refreshed.changed_share, refreshed.shift) == (0.5, 0.25, None)
    assert (refreshed.accepted, refreshed.rolled_back) == (True, True)
    assert (held.cycle, held.action, held.accepted) == ("cycle-0004", "HOLD", False)


def test_a_turn_under_way_can_be_read(registry: Registry) -> None:
    with registry.cycle() as log:
        turn = registry.read(log)
    assert (turn.name, turn.decision, turn.outcome) == ("cycle-0001", "?", "running")
    assert turn.seconds >= 0


def test_what_an_operator_did_is_a_turn_of_its_own(registry: Registry) -> None:
    with registry.manual_cycle("rollback", {"decision": "ROLLBACK", "undone_release": "2"}) as log:
        log.tags({"outcome": "rolled_back", "release": "1"})
    [turn] = registry.history()
    assert (turn.name, turn.decision, turn.release, turn.undone) == ("rollback", "ROLLBACK", "1", "2")


def test_another_name_for_a_run_leaves_the_number_of_its_turn(registry: Registry, space: Workspace) -> None:
    with registry.cycle() as log:
        log.rename("cycle-0001 NOTHING")
    assert run_of(space, log).info.run_name == "cycle-0001 NOTHING"
    assert registry.history()[0].name == "cycle-0001"
    assert registry.address(log).endswith(f"/runs/{log.id}")


def test_what_was_decided_stands_on_the_page_of_its_run(registry: Registry, space: Workspace) -> None:
    with registry.cycle() as log:
        log.describe("- Yes to REFRESH: one page is new.")
    assert run_of(space, log).data.tags["mlflow.note.content"] == "- Yes to REFRESH: one page is new."


# --- releases ------------------------------------------------------------------------------------------------------


def test_a_release_comes_back_as_it_was_written_down(registry: Registry) -> None:
    made = finished(registry)
    assert registry.release(made.id) == made
    registry.set_live(made)
    assert registry.champion() == made


def test_each_number_is_given_once(registry: Registry) -> None:
    assert [unfinished(registry) for _ in range(3)] == ["1", "2", "3"]


def test_the_version_names_data_index_and_adapter(registry: Registry, space: Workspace) -> None:
    index = BuiltIndex(uri="lance", version=17, fingerprint="f", documents="s1", rows=1, embedded=1, seconds=0.1)
    made = finished(registry, index=index)
    tags = client(space).get_model_version("ragtide", made.id).tags
    assert (tags["data_rev"], tags["index_version"], tags["index_tag"]) == (made.snapshot.id, "17", "release-1")
    assert (tags["adapter"], tags["previous"]) == ("none", "none")
    assert (tags["decision"], tags["answer_score"]) == ("REFRESH", "1.0")


def test_one_alias_is_all_that_says_what_is_live(registry: Registry, space: Workspace) -> None:
    first, second = finished(registry), finished(registry)
    for one in (first, second, first):
        registry.set_live(one)
        assert client(space).get_registered_model("ragtide").aliases == {CHAMPION: int(one.id)}
        assert registry.champion() == one


def test_a_release_is_live_since_it_was_made_or_one_last_went_back_to_it(registry: Registry) -> None:
    first, second = (finished(registry, created=f"20{year}-01-01T00:00:00+00:00") for year in (20, 21))
    registry.set_live(second)
    assert live_since(second, registry.history()) == second.created
    with registry.manual_cycle("rollback", {"decision": "ROLLBACK", "release": first.id, "undone_release": second.id}):
        pass
    assert live_since(first, registry.history()) == registry.history()[-1].at > second.created
    assert live_since(second, registry.history()) == second.created


def test_every_release_that_was_finished_is_listed_oldest_first(registry: Registry) -> None:
    made = [finished(registry) for _ in range(9)]
    unfinished(registry)
    made += [finished(registry) for _ in range(2)]
    assert [one.id for one in made][-3:] == ["9", "11", "12"]
    assert registry.releases() == made


def test_a_project_may_have_a_name_with_a_quotation_mark(space: Workspace) -> None:
    params = space.params.registry.model_copy(update={"model": "it's ours"})
    named = Registry(replace(space, params=space.params.model_copy(update={"registry": params})))
    made = finished(named)
    assert named.release(made.id) == made
    assert named.releases() == [made]


def test_what_the_pointer_names_is_told_whether_or_not_it_is_whole(registry: Registry, space: Workspace) -> None:
    assert registry.live_release_id() is None
    made = finished(registry)
    registry.set_live(made)
    assert registry.live_release_id() == made.id
    draft = unfinished(registry)
    client(space).set_registered_model_alias("ragtide", CHAMPION, draft)
    assert registry.live_release_id() == draft


def test_a_pointer_at_a_draft_is_refused_with_what_mends_it(registry: Registry, space: Workspace) -> None:
    finished(registry)
    client(space).set_registered_model_alias("ragtide", CHAMPION, unfinished(registry))
    with pytest.raises(UserError, match="ragtide verify") as refusal:
        registry.champion()
    assert "\n" not in str(refusal.value)


def test_a_turn_that_was_killed_is_found_and_closed(registry: Registry, space: Workspace) -> None:
    with registry.cycle() as log:
        log.tags({"outcome": "nothing"})
        # Another process began this one, and was killed.
        killed = client(space).create_run(
            run_of(space, log).info.experiment_id, tags={"ragtide.kind": "cycle", "cycle": "cycle-0002"}
        )
    assert [turn.run for turn in registry.running_cycles()] == [killed.info.run_id]
    registry.close_killed(registry.running_cycles()[0])
    assert registry.running_cycles() == []
    assert client(space).get_run(killed.info.run_id).info.status == "KILLED"
    assert {turn.run: turn.outcome for turn in registry.history()}[killed.info.run_id] == "killed"


@pytest.mark.parametrize("asked", ["2", "0", "-1", "first"])
def test_a_release_that_is_not_there_is_refused_in_one_line(asked: str, registry: Registry) -> None:
    finished(registry)
    with pytest.raises(UserError, match=f"^there is no release {asked}: `ragtide history` lists them$"):
        registry.release(asked)


def test_a_release_that_was_never_finished_is_refused_in_one_line(registry: Registry) -> None:
    number = unfinished(registry)
    with pytest.raises(UserError, match=f"^there is no release {number}: .*") as refusal:
        registry.release(number)
    assert "\n" not in str(refusal.value)


# --- adapters ------------------------------------------------------------------------------------------------------


def test_an_adapter_that_this_machine_lacks_is_fetched_back(
    registry: Registry, space: Workspace, tmp_path: Path
) -> None:
    stored = write(tmp_path / "elsewhere" / "weights.bin", b"\x00weights\xff").parent
    write(stored / "deep" / "config.json", "{}")
    made = with_adapter(registry, stored)
    target = space.adapters / ADAPTER
    registry.fetch_adapter(made, target)
    assert (target / "weights.bin").read_bytes() == b"\x00weights\xff"
    assert (target / "deep" / "config.json").read_text() == "{}"
    assert [path.name for path in space.adapters.iterdir()] == [ADAPTER]


def test_an_adapter_that_is_here_is_not_fetched(registry: Registry, space: Workspace, tmp_path: Path) -> None:
    made = with_adapter(registry, write(tmp_path / "elsewhere" / "weights.bin", "stored").parent)
    write(space.adapters / ADAPTER / "weights.bin", "here")
    registry.fetch_adapter(made, space.adapters / ADAPTER)
    assert (space.adapters / ADAPTER / "weights.bin").read_text() == "here"


def test_a_base_model_alone_has_nothing_to_fetch(registry: Registry, space: Workspace) -> None:
    registry.fetch_adapter(finished(registry), space.adapters / "none")
    assert not space.adapters.exists()


# --- the review desk -----------------------------------------------------------------------------------------------


def over_time(space: Workspace, metric: str) -> list[tuple[int, float]]:
    """The points of one chart over the cycles."""
    desk = client(space)
    [experiment] = [one.experiment_id for one in desk.search_experiments() if one.name != "Default"]
    [run] = desk.search_runs([experiment], "tags.`ragtide.kind` = 'timeline'")
    return [(one.step, one.value) for one in desk.get_metric_history(run.info.run_id, f"over the cycles/{metric}")]


def test_every_turn_adds_one_point_to_the_charts_over_the_cycles(registry: Registry, space: Workspace) -> None:
    for score in (0.5, 0.9):
        with registry.cycle() as log:
            log.metrics({"score_before": score})
    with registry.manual_cycle("rollback", {"decision": "ROLLBACK"}):
        pass
    with Registry(space).cycle() as log:
        log.metrics({"score_before": 0.8})
    assert over_time(space, "live score") == [(1, 0.5), (2, 0.9), (4, 0.8)]


def test_a_turn_that_failed_is_charted_too(registry: Registry, space: Workspace) -> None:
    def fail(log: RunLog) -> None:
        log.metrics({"score_before": 0.4})
        raise UserError("no")

    with pytest.raises(UserError), registry.cycle() as log:
        fail(log)
    assert over_time(space, "live score") == [(1, 0.4)]


def test_charting_a_turn_again_changes_nothing(registry: Registry, space: Workspace) -> None:
    with registry.cycle() as log:
        log.metrics({"score_before": 0.5})
        registry._chart(log, 1)
        registry._chart(log, 1)
    assert over_time(space, "live score") == [(1, 0.5)]


def test_the_charts_run_is_no_turn_of_the_history(registry: Registry) -> None:
    with registry.cycle():
        pass
    assert [cycle.name for cycle in registry.history()] == ["cycle-0001"]


def test_the_experiment_says_what_is_there_and_keeps_what_a_person_wrote(registry: Registry, space: Workspace) -> None:
    with registry.cycle():
        pass
    desk = client(space)
    tags = desk.get_experiment(registry.experiment).tags
    assert {"mlflow.sharedViewState.cycles", "mlflow.sharedViewState.over-the-cycles"} <= set(tags)
    desk.set_experiment_tag(registry.experiment, "mlflow.note.content", "ours")
    with registry.cycle():
        pass
    assert desk.get_experiment(registry.experiment).tags["mlflow.note.content"] == "ours"


def test_more_settings_than_mlflow_takes_at_once_are_all_logged(registry: Registry, space: Workspace) -> None:
    with registry.cycle() as log:
        log.params({"block": {f"key{number}": number for number in range(230)}})
    assert len(client(space).get_run(log.id).data.params) == 230


def test_a_releases_page_links_to_its_run(registry: Registry, space: Workspace) -> None:
    with registry.cycle() as log:
        draft = registry.draft(log)
        registry.describe(release(int(draft.id)), draft, log)
    version = client(space).get_model_version("ragtide", draft.id)
    assert f"/runs/{log.id}/artifacts/decision.html" in version.description


@pytest.mark.parametrize(
    ("uri", "server"),
    [(None, "http://127.0.0.1:5000"), ("http://127.0.0.1:5001/", "http://127.0.0.1:5001")],
)
def test_a_runs_address_is_one_that_a_browser_can_open(
    registry: Registry, space: Workspace, uri: str | None, server: str
) -> None:
    with registry.cycle() as log:
        pass
    params = space.params.model_copy(
        update={"registry": space.params.registry.model_copy(update={"tracking_uri": uri})}
    )
    elsewhere = Registry(replace(space, params=params))
    elsewhere.__dict__["experiment"] = registry.experiment
    assert elsewhere.address(log) == f"{server}/#/experiments/{registry.experiment}/runs/{log.id}"
