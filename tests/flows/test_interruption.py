"""Tests of SIGTERM and Ctrl-C at every step: one line, a closed record, no process left, and a bounded end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ragtide.flows import interruption
from ragtide.pipelines.records.release import Outcome
from tests.conftest import ROOT
from tests.crash import Point, end_group, start
from tests.factories import write
from tests.flows.test_outages import assert_recovers, outdated_project, page, ragtide
from tests.pipelines.data.test_dvc import HELD, other_dvc
from tests.projects import Home, mlflow_client
from tests.servers import eventually

POINTS = [
    Point("after", "server start"),
    Point("before", "evidence"),
    Point("before", "training"),
    Point("before", "pointer"),
    Point("after", "pointer"),
]
TRAIN = "".join(json.dumps({"prompt": f"Prompt {n}", "completion": "x"}) + "\n" for n in range(3))
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}


def running(home: Home) -> list[str]:
    """The names of MLflow's runs that are recorded as running."""
    client = mlflow_client(home.project.workspace)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return [run.info.run_name for run in client.search_runs(experiments, "attributes.status = 'RUNNING'")]


def interrupt(home: Home, line: str, point: Point, number: int) -> tuple[int, str]:
    """Send a signal to a command that stays in native code at `point`: its exit code and what it printed then."""
    # Without an address of a server, the command starts one of its own.
    child = start(line, home.root, point, "stay", PREFECT_API_URL="", PREFECT_HOME=str(home.root / ".ragtide/prefect"))
    try:
        assert child.stdout
        before = list(iter(child.stdout.readline, "staying\n"))
        assert child.poll() is None, before
        children = psutil.Process(child.pid).children(recursive=True)
        child.send_signal(number)
        output, _ = child.communicate(timeout=120)
        assert not psutil.wait_procs(children, timeout=60)[1]
    finally:
        end_group(child.pid)
    return child.returncode, output


def test_the_parts_of_the_end_take_less_than_ten_seconds() -> None:
    assert interruption.GRACE_SECONDS + interruption.RECORD_SECONDS + interruption.CHILD_SECONDS < 10


@pytest.mark.long
@pytest.mark.parametrize(
    ("point", "number"),
    [*((point, signal.SIGTERM) for point in POINTS), (POINTS[0], signal.SIGINT)],
    ids=str,
)
def test_a_signal_ends_a_run_at_any_step_and_the_record_says_so(point: Point, number: int, tmp_path: Path) -> None:
    home = outdated_project(tmp_path / "project", policy={"name": "always"})
    write(home.root / "data/train/t.jsonl", TRAIN)
    code, output = interrupt(home, "run", point, number)
    assert code == CODES[signal.Signals(number)]
    # Prefect may have reported a service of its own before; the last line is ours, and there is no other of ours.
    assert [line for line in output.splitlines() if line.startswith("ragtide: ")] == output.splitlines()[-1:]
    assert "Traceback" not in output
    assert running(home) == []
    cycles = home.project.registry.history()
    if point.place != "server start":
        assert (cycles[-1].outcome, cycles[-1].detail) == (Outcome.INTERRUPTED, interruption.NAMES[number])
    if (point.when, point.place) != ("after", "pointer"):
        assert_recovers(home, is_refreshed=point.place == "training")


@pytest.mark.long
def test_a_signal_ends_a_run_with_the_dvc_process_that_it_waits_for(tmp_path: Path) -> None:
    home = outdated_project(tmp_path / "project")
    assert ragtide(home.root, "snapshot")[0] == 0
    write(home.root / "data/kb/pump.md", page("2032-02-02"))
    with other_dvc(home.root, HELD["lock"]):
        command = [sys.executable, "-m", "ragtide", "run", "--project", str(home.root)]
        run = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
        try:
            assert eventually(lambda: dvc_children(run))
            children = psutil.Process(run.pid).children(recursive=True)
            run.send_signal(signal.SIGTERM)
            _, err = run.communicate(timeout=120)
            assert not psutil.wait_procs(children, timeout=60)[1]
        finally:
            end_group(run.pid)
    assert (run.returncode, len(err.splitlines())) == (143, 1)
    assert home.project.registry.history()[-1].outcome == Outcome.INTERRUPTED
    assert running(home) == []


def dvc_children(run: subprocess.Popen[str]) -> bool:
    """Whether a process has a child that runs DVC."""
    return any("dvc" in child.cmdline() for child in psutil.Process(run.pid).children(recursive=True))


CHILD = """
import signal, subprocess, sys, time
from ragtide.flows import interruption
interruption.GRACE_SECONDS = {grace}
interruption.exit_on_signals()
child = subprocess.Popen(["sleep", "600"])
line = str(child.pid)
while True:
    try:
        print(line, flush=True)
        time.sleep(600)
    except SystemExit:
        {reaction}
"""


@pytest.mark.parametrize(
    ("grace", "signals", "code"),
    [
        (0.1, [signal.SIGTERM], 143),
        (0.1, [signal.SIGINT], 130),
        (600, [signal.SIGINT, signal.SIGINT], 130),
        (600, [signal.SIGTERM, signal.SIGTERM, signal.SIGINT], 130),
    ],
)
def test_a_process_that_holds_the_signal_back_is_ended_with_its_children(
    grace: float, signals: list[int], code: int
) -> None:
    """A second Ctrl-C does not wait; a second SIGTERM, which Prefect sends on, changes nothing."""
    command = [sys.executable, "-c", CHILD.format(grace=grace, reaction="line = 'held'")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    child = psutil.Process(int(process.stdout.readline()))
    for number in signals[:-1]:
        process.send_signal(number)
        assert process.stdout.readline() == "held\n"
    process.send_signal(signals[-1])
    _, err = process.communicate(timeout=120)
    assert process.returncode == code
    assert psutil.wait_procs([child], timeout=60)[1] == []
    assert len(err.splitlines()) == (1 if len(signals) == 1 else 0)


def test_a_command_with_something_to_stop_takes_its_time() -> None:
    reaction = "interruption.end_without_deadline(); time.sleep(1); sys.exit(7)"
    code = CHILD.format(grace=0.1, reaction=reaction)
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    child = int(process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 7
    os.kill(child, signal.SIGKILL)
    process.communicate()
