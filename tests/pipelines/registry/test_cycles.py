"""Tests of the cycle registry on a real MLflow database: runs, steps, failures, history and charts."""

from __future__ import annotations

import signal
import threading

import pytest
from mlflow.entities import Run
from prefect.exceptions import TerminationSignal

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.history.history import (
    ACTION_SECONDS,
    CHANGED_SHARE,
    EXPECTED_POINTS,
    FORECAST_SECONDS,
    LIVE_SCORE,
    SHIFT,
    past_decisions,
)
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.release import Cycle, Outcome
from ragtide.pipelines.registry.cycles import interrupt_open_runs
from ragtide.pipelines.registry.releases import Registry
from ragtide.pipelines.registry.runs import DvcSource, RunLog
from ragtide.pipelines.workspace import Workspace
from tests.factories import md5, snapshot
from tests.projects import mlflow_client, recorded_release


def run_of(space: Workspace, log: RunLog) -> Run:
    return mlflow_client(space).get_run(log.id)


def test_cycles_are_numbered_and_listed_oldest_first(registry: Registry) -> None:
    for _ in range(3):
        with registry.cycle():
            pass
    assert [cycle.name for cycle in registry.history()] == ["cycle-0001", "cycle-0002", "cycle-0003"]


def test_a_step_is_nested_in_its_cycle_and_is_not_a_cycle(registry: Registry, space: Workspace) -> None:
    with registry.cycle() as cycle, registry.step("decide", cycle) as step:
        pass
    run = run_of(space, step)
    assert run.data.tags["mlflow.parentRunId"] == cycle.id
    assert (run.info.run_name, run.info.status) == ("decide", "FINISHED")
    assert [cycle.run for cycle in registry.history()] == [cycle.id]


def recorded_end(problem: BaseException, registry: Registry, space: Workspace) -> set[tuple[str, str, str]]:
    """The status, outcome and detail of a step that raises `problem` and of its cycle; one where both are alike."""
    with pytest.raises(type(problem)), registry.cycle() as cycle, registry.step("decide", cycle) as step:
        raise problem
    runs = [run_of(space, log) for log in (step, cycle)]
    return {(run.info.status, run.data.tags["outcome"], run.data.tags["outcome_detail"]) for run in runs}


@pytest.mark.parametrize(
    ("problem", "detail"),
    [
        (UserError("the kb is empty"), "the kb is empty"),
        (ValueError("over\n  several\tlines"), "over several lines"),
        (TimeoutError(), "TimeoutError"),
        (ValueError("x" * 9000), "" + "x" * 200),
    ],
)
def test_a_step_that_raises_is_recorded_as_failed_with_its_message(
    problem: BaseException, detail: str, registry: Registry, space: Workspace
) -> None:
    assert recorded_end(problem, registry, space) == {("FAILED", "failed", detail)}
    assert (registry.history()[-1].outcome, registry.history()[-1].detail) == ("failed", detail)


def test_a_step_that_succeeds_on_retry_does_not_fail_its_cycle(registry: Registry, space: Workspace) -> None:
    with registry.cycle() as cycle:
        with pytest.raises(ConnectionError), registry.step("decide", cycle) as first:
            raise ConnectionError("away")
        with registry.step("decide", cycle) as second:
            pass
    status = [run_of(space, log).info.status for log in (first, second, cycle)]
    assert status == ["FAILED", "FINISHED", "FINISHED"]


def test_an_unmeasured_metric_is_skipped_and_not_logged_as_0(registry: Registry, space: Workspace) -> None:
    with registry.cycle() as log:
        log.metrics({"score_before": None, "score_after": 0.0, "n": 3})
    assert run_of(space, log).data.metrics == {"score_after": 0.0, "n": 3.0}
    cycle = registry.read(log)
    assert (cycle.score_before, cycle.score_after) == (None, 0.0)


def test_a_series_keeps_its_steps(registry: Registry, space: Workspace) -> None:
    with registry.cycle() as log:
        log.series("loss", [(0, 3.0), (1, 1.0), (4, 2.0)])
    steps = mlflow_client(space).get_metric_history(log.id, "loss")
    assert [(point.step, point.value) for point in steps] == [(0, 3.0), (1, 1.0), (4, 2.0)]


def test_settings_are_logged_under_the_names_that_params_yaml_has(registry: Registry, space: Workspace) -> None:
    with registry.cycle() as log:
        log.params(space.params.model_dump(mode="json"))
    logged = run_of(space, log).data.params
    assert logged["policy.points_per_hour"] == str(space.params.policy.points_per_hour)
    assert {key.split(".")[0] for key in logged} == set(type(space.params).model_fields)


def test_datasets_are_logged_with_their_dvc_hashes(registry: Registry, space: Workspace) -> None:
    data = snapshot({"a.md": md5("a")}, {"t.jsonl": md5("t")})
    with registry.cycle() as log, registry.step("observe", log) as step:
        log.datasets(data)
        step.datasets(data)
    for run_log in (log, step):
        used_by = run_of(space, run_log).inputs
        assert used_by is not None
        inputs = {used.dataset.name: used for used in used_by.dataset_inputs}
        digests = {name: used.dataset.digest for name, used in inputs.items()}
        assert digests == {"kb": data.kb_id, "train": data.train_id, "golden": data.golden_id}
        assert {name: used.tags[0].value for name, used in inputs.items()} == {
            "kb": "index",
            "train": "training",
            "golden": "evaluation",
        }


def test_a_dataset_source_names_its_folder_and_dvc_checkout() -> None:
    source = DvcSource("data/kb", "abc.dir")
    assert DvcSource.from_dict(source.to_dict()).to_dict() == {"folder": "data/kb", "md5": "abc.dir"}
    with pytest.raises(NotImplementedError, match="dvc checkout"):
        source.load()


def test_a_cycle_is_read_back_as_it_was_recorded(registry: Registry) -> None:
    with registry.cycle() as log:
        log.tags({"decision": "REFRESH", "outcome": "released", "reason": "one page is new", "data_rev": "s1"})
        log.tags({"params": "p1", "release": "1"})
        log.metrics({"work.embedded_chunks": 4, "work.index_seconds": 0.5, "index_gap": 0.2, "score_after": 0.9})
    [cycle] = registry.history()
    assert (cycle.decision, cycle.outcome, cycle.reason) == ("REFRESH", "released", "one page is new")
    assert (cycle.snapshot, cycle.params, cycle.release, cycle.undone) == ("s1", "p1", "1", None)
    assert cycle.work == {"embedded_chunks": 4.0, "index_seconds": 0.5}
    assert cycle.signals == {"index_gap": 0.2, "score_after": 0.9}
    assert cycle.score_after == 0.9


def fail_to_publish(log: RunLog) -> None:
    log.tags({"decision": "RETRAIN"})
    log.metrics({EXPECTED_POINTS: 20, "score_before": 0.6, "score_after": 0.9})
    raise ConnectionError("the store does not answer")


def test_past_decisions_have_the_expected_and_the_recovered_points(registry: Registry) -> None:
    with registry.cycle() as log:
        log.tags({"decision": "REFRESH", "outcome": "released", "release": "1"})
        log.metrics({EXPECTED_POINTS: 20, FORECAST_SECONDS: 330.5, ACTION_SECONDS: 301.25, LIVE_SCORE: 0.5})
        log.metrics({CHANGED_SHARE: 0.25, SHIFT: None, "score_before": 0.5, "score_after": 0.6, "work.rows": 4})
    with pytest.raises(ConnectionError), registry.cycle() as log:
        fail_to_publish(log)
    with registry.manual_cycle("rollback", {"decision": "ROLLBACK", "undone_release": "1", "outcome": "rolled_back"}):
        pass
    with registry.cycle() as log:
        log.tags({"decision": "HOLD", "outcome": "held"})
    refreshed, held = past_decisions(registry.history())
    assert (refreshed.expected_points, refreshed.recovered_points) == (20, 10)
    assert (refreshed.forecast_seconds, refreshed.seconds) == (330.5, 301.25)
    assert (refreshed.score, refreshed.changed_share, refreshed.shift) == (0.5, 0.25, None)
    assert (refreshed.accepted, refreshed.rolled_back) == (True, True)
    assert (held.cycle, held.action, held.accepted) == ("cycle-0004", Action.HOLD, False)


def test_a_running_cycle_can_be_read(registry: Registry) -> None:
    with registry.cycle() as log:
        cycle = registry.read(log)
    assert (cycle.name, cycle.decision, cycle.outcome) == ("cycle-0001", "undecided", "running")
    assert cycle.seconds >= 0


def test_a_manual_action_is_a_cycle_of_its_own(registry: Registry) -> None:
    with registry.manual_cycle("rollback", {"decision": "ROLLBACK", "undone_release": "2"}) as log:
        log.tags({"outcome": "rolled_back", "release": "1"})
    [cycle] = registry.history()
    assert (cycle.name, cycle.decision, cycle.release, cycle.undone) == ("rollback", "ROLLBACK", "1", "2")


def test_renaming_a_run_keeps_the_name_of_its_cycle(registry: Registry, space: Workspace) -> None:
    with registry.cycle() as log:
        log.rename("cycle-0001 NOTHING")
    assert run_of(space, log).info.run_name == "cycle-0001 NOTHING"
    assert registry.history()[0].name == "cycle-0001"
    assert registry.address(log).endswith(f"/runs/{log.id}")


def test_a_description_is_shown_on_the_page_of_its_run(registry: Registry, space: Workspace) -> None:
    with registry.cycle() as log:
        log.describe("- REFRESH: one page is new.")
    assert run_of(space, log).data.tags["mlflow.note.content"] == "- REFRESH: one page is new."


def test_a_killed_cycle_is_found_and_closed(registry: Registry, space: Workspace) -> None:
    with registry.cycle() as log:
        log.tags({"outcome": "nothing"})
        # Another process began this one, and was killed.
        killed = mlflow_client(space).create_run(
            run_of(space, log).info.experiment_id, tags={"ragtide.kind": "cycle", "cycle": "cycle-0002"}
        )
    assert [cycle.run for cycle in registry.running_cycles()] == [killed.info.run_id]
    registry.close_killed(registry.running_cycles()[0])
    assert registry.running_cycles() == []
    assert mlflow_client(space).get_run(killed.info.run_id).info.status == "KILLED"
    assert {cycle.run: cycle.outcome for cycle in registry.history()}[killed.info.run_id] == "killed"


def chart(space: Workspace, metric: str) -> list[tuple[int, float]]:
    """The points (cycle, value) of one chart over all cycles."""
    mlflow = mlflow_client(space)
    [experiment] = [found.experiment_id for found in mlflow.search_experiments() if found.name != "Default"]
    [run] = mlflow.search_runs([experiment], "tags.`ragtide.kind` = 'timeline'")
    return [(point.step, point.value) for point in mlflow.get_metric_history(run.info.run_id, f"by_cycle/{metric}")]


def test_every_cycle_adds_one_point_to_the_charts(registry: Registry, space: Workspace) -> None:
    for score in (0.5, 0.9):
        with registry.cycle() as log:
            log.metrics({"score_before": score})
    with registry.manual_cycle("rollback", {"decision": "ROLLBACK", "outcome": "rolled_back"}):
        pass
    with Registry(space).cycle() as log:
        log.metrics({"score_before": 0.8})
    assert chart(space, "live_score") == [(1, 0.5), (2, 0.9), (4, 0.8)]


def test_a_failed_cycle_is_charted(registry: Registry, space: Workspace) -> None:
    def fail(log: RunLog) -> None:
        log.metrics({"score_before": 0.4})
        raise UserError("no")

    with pytest.raises(UserError), registry.cycle() as log:
        fail(log)
    assert chart(space, "live_score") == [(1, 0.4)]


def test_charting_a_cycle_again_changes_nothing(registry: Registry, space: Workspace) -> None:
    with registry.cycle() as log:
        log.metrics({"score_before": 0.5})
        registry._chart(log, 1)
        registry._chart(log, 1)
    assert chart(space, "live_score") == [(1, 0.5)]


def test_the_run_of_the_charts_is_not_a_cycle(registry: Registry) -> None:
    with registry.cycle():
        pass
    assert [cycle.name for cycle in registry.history()] == ["cycle-0001"]


def test_more_params_than_fit_into_one_batch_are_all_logged(registry: Registry, space: Workspace) -> None:
    with registry.cycle() as log:
        log.params({"block": {f"key{number}": number for number in range(230)}})
    assert len(mlflow_client(space).get_run(log.id).data.params) == 230


# --- interruptions, and records of killed processes ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("problem", "detail"),
    [
        (KeyboardInterrupt(), "Ctrl-C"),
        (SystemExit(130), "Ctrl-C"),
        (SystemExit(143), "SIGTERM"),
        (TerminationSignal(signal.SIGTERM), "SIGTERM"),
    ],
    ids=repr,
)
def test_a_step_that_a_signal_ends_is_recorded_as_interrupted(
    problem: BaseException, detail: str, registry: Registry, space: Workspace
) -> None:
    assert recorded_end(problem, registry, space) == {("KILLED", "interrupted", detail)}
    [last] = registry.history()
    assert (last.outcome, last.outcome.is_final) == (Outcome.INTERRUPTED, False)


def test_the_open_runs_of_a_process_can_be_closed_from_another_thread(registry: Registry, space: Workspace) -> None:
    with registry.cycle() as cycle, registry.step("decide", cycle) as step:
        closing = threading.Thread(target=interrupt_open_runs, args=("SIGTERM",))
        closing.start()
        closing.join()
        for log in (step, cycle):
            assert run_of(space, log).data.tags["outcome"] == "interrupted"
            assert run_of(space, log).info.status == "KILLED"
    # What has ended is not closed again.
    with registry.cycle() as ended:
        pass
    interrupt_open_runs("SIGTERM")
    assert run_of(space, ended).info.status == "FINISHED"


def killed_cycle(registry: Registry, space: Workspace, **tags: str) -> Cycle:
    """A cycle as a killed process leaves it: recorded as running."""
    tags = {"ragtide.kind": "cycle", "cycle": "killed", "decision": "REFRESH", **tags}
    run = mlflow_client(space).create_run(registry.experiment, tags=tags)
    return registry.read(RunLog(mlflow_client(space), run))  # type: ignore[arg-type]


def test_a_killed_cycle_whose_release_went_live_is_recorded_as_released(registry: Registry, space: Workspace) -> None:
    """Otherwise a rollback of that release would not hold back the same data."""
    first, second = (recorded_release(registry) for _ in range(2))
    registry.set_live(second)
    for made, is_live in ((first, False), (second, True)):
        run = mlflow_client(space).get_model_version(space.params.registry.model, made.id).run_id
        [cycle] = [cycle for cycle in registry.running_cycles() if cycle.run == run]
        registry.close_killed(cycle)
        [closed] = [cycle for cycle in registry.history() if cycle.run == run]
        assert closed.outcome == ("released" if is_live else "killed")
        assert closed.release == (made.id if is_live else None)


@pytest.mark.parametrize("moved", [True, False])
def test_a_killed_rollback_took_something_back_only_where_the_pointer_had_moved(
    moved: bool, registry: Registry, space: Workspace
) -> None:
    first, second = (recorded_release(registry) for _ in range(2))
    registry.set_live(first if moved else second)
    rollback = killed_cycle(registry, space, decision="ROLLBACK", reason="wrong", undone_release=second.id)
    registry.close_killed(rollback)
    [closed] = [cycle for cycle in registry.history() if cycle.run == rollback.run]
    assert closed.outcome == ("rolled_back" if moved else "killed")
    assert (closed.undone, closed.release) == ((second.id, first.id) if moved else (None, None))
    assert rollback.run not in {cycle.run for cycle in registry.running_cycles()}


def test_a_cycle_can_be_closed_with_another_outcome(registry: Registry, space: Workspace) -> None:
    registry.close_killed(killed_cycle(registry, space), {"outcome": "interrupted", "outcome_detail": "`ragtide down`"})
    [closed] = registry.history()
    assert (closed.outcome, closed.detail) == (Outcome.INTERRUPTED, "`ragtide down`")
