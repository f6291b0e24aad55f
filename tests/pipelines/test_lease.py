"""Does the lease keep to one writer, whoever is killed, stopped or cut off, and whatever the clocks say?"""

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
# A child that holds the lease, says so, and goes on until its input ends; then it says whether it still has it.
HOLDER = """
import sys
from pathlib import Path
from pipelines import lease
lease.LEASE_SECONDS, lease.BEAT_SECONDS, lease.POLL_SECONDS = map(float, sys.argv[2:5])
try:
    with lease.hold(Path(sys.argv[1]), "a child", lease.Wait(60)) as held:
        print("held", flush=True)
        sys.stdin.readline()
        held.check()
        print("mine", flush=True)
except lease.RefusalError as problem:
    print("lost:", problem, flush=True)
"""
# Long enough that a busy machine does not let a living owner's beat wait for as long.
SHORT = (2.0, 0.2, 0.1)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases of seconds: what takes 90 s takes 3 s, in this process and its children alike."""
    for name, seconds in zip(("LEASE_SECONDS", "BEAT_SECONDS", "POLL_SECONDS"), SHORT, strict=True):
        monkeypatch.setattr(lease, name, seconds)


@contextmanager
def child(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lease; it is dead at the end, whatever became of it."""
    command = [sys.executable, "-c", HOLDER, str(folder), *map(str, SHORT)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert said(process) == "held"
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def told_to_end(process: subprocess.Popen[str]) -> str:
    """Have a child come to its end: what it says last."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return said(process)


def refusal(folder: Path, wait: WaitPolicy = lease.NO_WAIT) -> str:
    with pytest.raises(UserError) as refused, acquire_lease(folder, wait=wait):
        pytest.fail("two writers at once")
    assert "\n" not in str(refused.value)
    return str(refused.value)


def moved(folder: Path, seconds: float) -> None:
    """As if the clock had jumped by as much since the owner's last beat."""
    then = time.time() - seconds
    os.utime(folder / "writer.lock", (then, then))


def of_another_host(folder: Path) -> None:
    """As if the owner sat on another machine, where nobody here can see whether it lives."""
    file = folder / "writer.lock"
    file.write_text(re.sub(r"host=.*", "host=elsewhere", file.read_text(encoding="utf-8")), encoding="utf-8")


# --- one at a time -------------------------------------------------------------------------------------------------


def test_whoever_comes_second_is_told_at_once_who_is_at_work_since_when(tmp_path: Path) -> None:
    with acquire_lease(tmp_path / "p" / ".ragtide", "flow run quick-owl"):
        message = refusal(tmp_path / "p" / ".ragtide")
    assert f"another run is at work in {tmp_path / 'p'}: " in message
    assert re.search(rf"\(flow run quick-owl, process {os.getpid()} on \S+, since 20\d\d-\S+\+00:00\)$", message)


def test_without_a_name_the_command_is_told_and_none_of_its_arguments(
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


def test_who_waits_says_once_for_whom_and_goes_on_when_the_other_is_done(tmp_path: Path, short: None) -> None:
    told: list[str] = []
    with child(tmp_path) as other:
        threading.Timer(1, told_to_end, [other]).start()
        with acquire_lease(tmp_path, wait=WaitPolicy(60, told.append)):
            assert describe_holder(tmp_path) != ""
    assert len(told) == 1
    assert told[0].startswith(f"waits for a child, process {other.pid} on ")


def test_who_has_waited_long_enough_is_refused(tmp_path: Path, short: None) -> None:
    with child(tmp_path) as other:
        assert f"process {other.pid}" in refusal(tmp_path, WaitPolicy(0.5, lambda _: None))
        assert told_to_end(other) == "mine"


def test_a_failure_inside_frees_the_lease(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), acquire_lease(tmp_path):
        raise ZeroDivisionError
    with acquire_lease(tmp_path) as held:
        held.check()


# --- whoever dies, stops or is cut off -----------------------------------------------------------------------------


def test_a_killed_owner_is_followed_at_once(tmp_path: Path) -> None:
    with child(tmp_path) as other:
        other.kill()
        other.wait()
        with acquire_lease(tmp_path) as held:
            held.check()


def test_a_stopped_owner_is_followed_after_the_limit_and_its_later_check_refuses(tmp_path: Path, short: None) -> None:
    with child(tmp_path) as other:
        other.send_signal(signal.SIGSTOP)
        with acquire_lease(tmp_path, wait=WaitPolicy(60, lambda _: None)) as held:
            other.send_signal(signal.SIGCONT)
            assert told_to_end(other).startswith("lost: this run gave no sign of life")
            assert other.wait() == 0
            # The end of the one that was followed leaves its follower the lease.
            held.check()
            assert f"process {os.getpid()}" in refusal(tmp_path)


def test_a_stopped_owner_is_watched_by_a_command_once_it_has_been_silent_for_long(tmp_path: Path, short: None) -> None:
    with child(tmp_path) as other:
        other.send_signal(signal.SIGSTOP)
        assert "another run is at work" in refusal(tmp_path)
        moved(tmp_path, 3600)
        told: list[str] = []
        with acquire_lease(tmp_path, wait=WaitPolicy(tell=told.append)) as held:
            held.check()
        assert re.match(r"no sign of life for 3\d\d\d s from a child, process \d+ on \S+, since ", told[0])


def test_an_owner_on_another_machine_is_left_its_lease_while_it_gives_signs_of_life(
    tmp_path: Path, short: None
) -> None:
    with child(tmp_path) as other:
        of_another_host(tmp_path)
        assert f"process {other.pid} on elsewhere" in refusal(tmp_path, WaitPolicy(2 * SHORT[0], lambda _: None))
        other.kill()
        other.wait()
        with acquire_lease(tmp_path, wait=WaitPolicy(60, lambda _: None)) as held:
            held.check()


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_clock_that_jumps_takes_no_living_owners_lease(seconds: float, tmp_path: Path, short: None) -> None:
    with child(tmp_path) as other:
        for _ in range(2):
            moved(tmp_path, seconds)
            assert f"process {other.pid}" in refusal(tmp_path, WaitPolicy(tell=lambda _: None))
        moved(tmp_path, seconds)
        assert f"process {other.pid}" in refusal(tmp_path, WaitPolicy(2 * SHORT[0], lambda _: None))
        assert told_to_end(other) == "mine"


def test_of_many_processes_that_want_it_one_has_it_at_a_time(tmp_path: Path, short: None) -> None:
    with child(tmp_path) as first, ExitStack() as inside:
        command = [sys.executable, "-c", HOLDER, str(tmp_path), *map(str, SHORT)]
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        others = [inside.enter_context(subprocess.Popen(command, cwd=ROOT, text=True, **streams)) for _ in range(3)]
        first.kill()
        first.wait()
        # Had two held it together, one would have said that it lost it.
        ends = [process.communicate(timeout=60)[0].split() for process in others]
    assert ends == [["held", "mine"]] * 3


# --- what cannot be written ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["acquire", "write"])
def test_a_full_disk_is_told_in_one_line_and_leaves_nobody_holding(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    owner = lease.SoftFileLease if what == "acquire" else lease.LeaseHolder
    with monkeypatch.context() as fault:
        fault.setattr(owner, what, full)
        said = refusal(tmp_path)
    assert (
        said == f"{tmp_path} cannot be written to (No space left on device): free space there, or mend its permissions"
    )
    with acquire_lease(tmp_path) as held:
        held.check()


def test_a_file_in_the_place_of_the_folder_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("", encoding="utf-8")
    assert "state cannot be written to (File exists)" in refusal(tmp_path / "state")


def test_a_lease_of_another_length_is_another_versions(tmp_path: Path, short: None) -> None:
    with child(tmp_path), pytest.MonkeyPatch.context() as other:
        other.setattr(lease, "LEASE_SECONDS", 5.0)
        assert refusal(tmp_path).startswith("another version of Ragtide is at work in ")
