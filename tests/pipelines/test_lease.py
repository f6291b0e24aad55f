"""Tests of the single-writer lease: exclusion, takeover of dead and stopped owners, clock jumps, full disks."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ragtide.pipelines import lease
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.lease import WaitPolicy, acquire_lease, describe_holder

ROOT = Path(__file__).parent.parent.parent
# A child that holds the lease and prints so, then at the end of its input prints whether it still holds the lease.
HOLDER = """
import sys
from pathlib import Path
from ragtide.pipelines import lease
lease.LEASE_SECONDS, lease.BEAT_SECONDS, lease.POLL_SECONDS = map(float, sys.argv[2:5])
try:
    with lease.acquire_lease(Path(sys.argv[1]), "a child", lease.WaitPolicy(60)) as held:
        print("held", flush=True)
        sys.stdin.readline()
        held.check()
        print("still held", flush=True)
except lease.UserError as problem:
    print("lost:", problem, flush=True)
"""
# Lease, heartbeat and poll seconds: long enough that a busy machine does not delay a living owner's heartbeat more.
SHORT = (2.0, 0.2, 0.1)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases of 2 s instead of 90 s, in this process and its children."""
    for name, seconds in zip(("LEASE_SECONDS", "BEAT_SECONDS", "POLL_SECONDS"), SHORT, strict=True):
        monkeypatch.setattr(lease, name, seconds)


@contextmanager
def child(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lease; killed at the end."""
    command = [sys.executable, "-c", HOLDER, str(folder), *map(str, SHORT)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert read_line(process) == "held"
            yield process
        finally:
            process.kill()


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def finish(process: subprocess.Popen[str]) -> str:
    """Let a child finish and return its last line."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return read_line(process)


def lease_error(folder: Path, wait: WaitPolicy = lease.NO_WAIT) -> str:
    with pytest.raises(UserError) as error, acquire_lease(folder, wait=wait):
        pytest.fail("two writers at once")
    assert "\n" not in str(error.value)
    return str(error.value)


def age_heartbeat(folder: Path, seconds: float) -> None:
    """Date the owner's last heartbeat back by `seconds`, as a clock jump would."""
    then = time.time() - seconds
    os.utime(folder / "writer.lock", (then, then))


def move_to_another_host(folder: Path) -> None:
    """Rewrite the owner's host, so that this machine cannot see whether its process is alive."""
    file = folder / "writer.lock"
    file.write_text(re.sub(r"host=.*", "host=elsewhere", file.read_text(encoding="utf-8")), encoding="utf-8")


# --- exclusion -----------------------------------------------------------------------------------------------------


def test_a_second_writer_fails_at_once_and_the_message_names_the_holder(tmp_path: Path) -> None:
    with acquire_lease(tmp_path / "p" / ".ragtide", "flow run quick-owl"):
        message = lease_error(tmp_path / "p" / ".ragtide")
    assert f"another run is at work in {tmp_path / 'p'}: " in message
    assert re.search(rf"\(flow run quick-owl, process {os.getpid()} on \S+, since 20\d\d-\S+\+00:00\)$", message)


def test_the_default_description_is_the_command_without_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/ragtide", "reject", "--why", "a secret"])
    with acquire_lease(tmp_path):
        assert describe_holder(tmp_path).startswith("ragtide reject, process ")
    assert describe_holder(tmp_path) == ""


def test_two_threads_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        with acquire_lease(tmp_path, wait=WaitPolicy(60, lambda _: None)):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.01)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 5


def test_a_waiting_writer_sends_one_message_and_continues_after_the_holder(tmp_path: Path, short: None) -> None:
    messages: list[str] = []
    with child(tmp_path) as other:
        threading.Timer(1, finish, [other]).start()
        with acquire_lease(tmp_path, wait=WaitPolicy(60, messages.append)):
            assert describe_holder(tmp_path) != ""
    assert len(messages) == 1
    assert messages[0].startswith(f"this run waits for a child, process {other.pid} on ")


def test_a_wait_that_is_too_short_is_an_error(tmp_path: Path, short: None) -> None:
    with child(tmp_path) as other:
        assert f"process {other.pid}" in lease_error(tmp_path, WaitPolicy(0.5, lambda _: None))
        assert finish(other) == "still held"


def test_an_exception_frees_the_lease(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), acquire_lease(tmp_path):
        raise ZeroDivisionError
    with acquire_lease(tmp_path) as held:
        held.check()


# --- dead, stopped and remote owners -------------------------------------------------------------------------------


def test_the_lease_of_a_killed_owner_is_taken_over_at_once(tmp_path: Path) -> None:
    with child(tmp_path) as other:
        other.kill()
        other.wait()
        with acquire_lease(tmp_path) as held:
            held.check()


def test_a_stopped_owner_loses_the_lease_after_the_limit_and_its_check_fails(tmp_path: Path, short: None) -> None:
    with child(tmp_path) as other:
        other.send_signal(signal.SIGSTOP)
        with acquire_lease(tmp_path, wait=WaitPolicy(60, lambda _: None)) as held:
            other.send_signal(signal.SIGCONT)
            assert finish(other).startswith("lost: this run sent no heartbeat")
            assert other.wait() == 0
            # The end of the former owner does not free the lease of the new one.
            held.check()
            assert f"process {os.getpid()}" in lease_error(tmp_path)


def test_a_command_watches_an_owner_without_recent_heartbeats(tmp_path: Path, short: None) -> None:
    with child(tmp_path) as other:
        other.send_signal(signal.SIGSTOP)
        assert "another run is at work" in lease_error(tmp_path)
        age_heartbeat(tmp_path, 3600)
        messages: list[str] = []
        with acquire_lease(tmp_path, wait=WaitPolicy(notify=messages.append)) as held:
            held.check()
        assert re.match(r"no heartbeat for 3\d\d\d s from a child, process \d+ on \S+, since ", messages[0])


def test_an_owner_on_another_machine_keeps_its_lease_while_it_sends_heartbeats(tmp_path: Path, short: None) -> None:
    with child(tmp_path) as other:
        move_to_another_host(tmp_path)
        assert f"process {other.pid} on elsewhere" in lease_error(tmp_path, WaitPolicy(2 * SHORT[0], lambda _: None))
        other.kill()
        other.wait()
        with acquire_lease(tmp_path, wait=WaitPolicy(60, lambda _: None)) as held:
            held.check()


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_clock_jump_costs_no_living_owner_its_lease(seconds: float, tmp_path: Path, short: None) -> None:
    with child(tmp_path) as other:
        for _ in range(2):
            age_heartbeat(tmp_path, seconds)
            assert f"process {other.pid}" in lease_error(tmp_path, WaitPolicy(notify=lambda _: None))
        age_heartbeat(tmp_path, seconds)
        assert f"process {other.pid}" in lease_error(tmp_path, WaitPolicy(2 * SHORT[0], lambda _: None))
        assert finish(other) == "still held"


def test_one_of_many_waiting_processes_holds_the_lease_at_a_time(tmp_path: Path, short: None) -> None:
    with child(tmp_path) as first, ExitStack() as inside:
        command = [sys.executable, "-c", HOLDER, str(tmp_path), *map(str, SHORT)]
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        others = [inside.enter_context(subprocess.Popen(command, cwd=ROOT, text=True, **streams)) for _ in range(3)]
        first.kill()
        first.wait()
        # Two holders at once would make one of them print that it lost the lease.
        outputs = [process.communicate(timeout=60)[0].split() for process in others]
    assert outputs == [["held", "still", "held"]] * 3


# --- write errors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["acquire", "write"])
def test_a_full_disk_is_a_one_line_error_and_frees_the_lease(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    owner = lease.SoftFileLease if what == "acquire" else lease.LeaseHolder
    with monkeypatch.context() as fault:
        fault.setattr(owner, what, full)
        message = lease_error(tmp_path)
    assert f"{tmp_path} cannot be written to (No space left on device)" in message
    with acquire_lease(tmp_path) as held:
        held.check()


def test_a_file_in_place_of_the_folder_is_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("", encoding="utf-8")
    assert "state cannot be written to (File exists)" in lease_error(tmp_path / "state")


def test_a_lease_of_another_duration_belongs_to_another_version(tmp_path: Path, short: None) -> None:
    with child(tmp_path), pytest.MonkeyPatch.context() as other:
        other.setattr(lease, "LEASE_SECONDS", 5.0)
        assert lease_error(tmp_path).startswith("another version of Ragtide is at work in ")
