"""The fork server dies, workers die while idle, messages are huge: the run goes on or ends by name."""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from airflow_parallel_provider import Pipeline, Stage, StopToken
from airflow_parallel_provider.errors import RunFailed, WorkersExhausted
from tests.support import saboteurs as bad
from tests.support.running import RecordingSink, run_pipeline
from tests.support.saboteurs import BAD, EXPECTED, ITEMS, AtBad
from tests.support.sync import Meeting, Once, in_background

SHAPES = ["alone", "ordered", "middle"]


def run_shape(stage: Stage, shape: str, source: Any = range(ITEMS), sink: Any = None, **options: Any) -> Any:
    stages = [stage]
    if shape == "middle":
        stages = [Stage(bad.same, name="before", workers=2), stage, Stage(bad.same, name="after", workers=2)]
    settings: dict[str, Any] = {"chunk_size": 8, "tolerance": ITEMS, "timeout": 40.0} | options
    return run_pipeline(source, stages, sink, ordered=shape != "alone", **settings)


class IdlePause(RecordingSink):
    """A source and sink: between two chunks every worker is idle; then ``act`` happens."""

    def __init__(self, act: Any) -> None:
        super().__init__()
        self.act = act
        self.committed = threading.Event()

    def source(self) -> Iterator[int]:
        yield from range(8)
        assert self.committed.wait(20)
        self.act(self.rows)
        yield from range(8, ITEMS)

    def commit(self, chunk: Any) -> int:
        count = super().commit(chunk)
        self.committed.set()
        return count


def tell_pid(item: int) -> tuple[int, int, int]:
    return item, os.getpid(), os.getppid()


def kill_workers(rows: list[tuple[int, int, int]]) -> None:
    for pid in {worker for _, worker, _ in rows}:
        end_and_wait(pid, pid)


def kill_fork_server(rows: list[tuple[int, int, int]]) -> None:
    end_and_wait(rows[0][2], rows[0][1])


def end_and_wait(pid: int, follower: int) -> None:
    """Kill a process; return when ``follower`` is dead: the kernel takes a moment to pass the death on."""
    descriptor = os.pidfd_open(follower)
    try:
        os.kill(pid, signal.SIGKILL)
        assert select.select([descriptor], [], [], 20)[0], "it outlived its parent"
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("act", [kill_workers, kill_fork_server], ids=lambda act: act.__name__)
def test_workers_killed_while_idle_cost_nothing(act: Any, shape: str) -> None:
    """No worker had a call, so no item is to blame: all forty results, no failure."""
    sink = IdlePause(act)
    stage = Stage(tell_pid, name="sabotage", kind="process", workers=2)

    ran = run_shape(stage, shape, sink.source, sink)

    assert ran.error is None
    assert sorted(row[0] for row in ran.rows) == list(range(ITEMS))
    assert ran.dead_letters == []
    assert len({row[1] for row in ran.rows}) > 1, "a replacement has worked"


@pytest.mark.parametrize("shape", SHAPES)
def test_a_fork_server_killed_while_its_workers_work_costs_nothing(shape: str, tmp_path: Path) -> None:
    """All workers die with it. That is no fault of the items they had: they are simply done again."""
    act = KillParentOnce(Once(str(tmp_path / "once")))

    ran = run_shape(Stage(AtBad(act), name="sabotage", kind="process", workers=2), shape)

    assert ran.error is None
    assert (ran.rows if shape != "alone" else sorted(ran.rows)) == EXPECTED
    assert any("fork server" in warning for warning in ran.report.warnings)


class KillParentOnce:
    def __init__(self, first: Once) -> None:
        self.first = first

    def __call__(self) -> int:
        return bad.kill_parent() if self.first() else BAD * 10


def test_a_fork_server_that_keeps_dying_ends_the_run() -> None:
    ran = run_shape(Stage(AtBad(bad.kill_parent), name="sabotage", kind="process", workers=2), "alone")

    assert isinstance(ran.error, WorkersExhausted)
    assert "fork server" in str(ran.error)
    assert ran.report.seconds < 20


def test_workers_that_are_killed_again_and_again_from_outside(tmp_path: Path) -> None:
    """A murderer goes round while the run works: every item has exactly one fate, and the run ends."""
    meeting = Meeting.at(tmp_path / "meeting")

    def call(item: int) -> int:
        if item % 7 == 3 and Once(str(tmp_path / f"met{item}"))():
            meeting.arrive(str(os.getpid()))
            bad.sleep_for_ever()
        return item * 10

    def murder() -> None:
        # In any order: the calls that a dead worker had not begun come after those that another worker holds.
        with open(meeting.path, "r+b", buffering=0) as victims:  # noqa: PTH123 - for writing too: it never ends
            for _ in range(5):
                os.kill(int(victims.readline()), signal.SIGKILL)

    with in_background(murder):
        ran = run_shape(Stage(call, name="sabotage", kind="process", workers=2), "ordered", range(35))

    assert ran.error is None
    assert ran.positions == [3, 10, 17, 24, 31]
    assert ran.rows == [item * 10 for item in range(35) if item not in ran.positions]
    assert ran.report.stages[0].workers_lost == 5


@pytest.mark.parametrize("megabytes", [1, 24])
@pytest.mark.parametrize("kind", ["bytes", "bytearray", "array"])
def test_large_messages_both_ways_do_not_block_each_other(kind: str, megabytes: int) -> None:
    """Both ends send before they read: with blocking sends on both sides this would block forever."""
    size = megabytes << 20

    def source() -> Iterator[Any]:
        for number in range(6):
            yield large(kind, number, size)

    stages = [Stage(echo_twice, kind="process", workers=2), Stage(ends, kind="process", workers=1)]
    ran = run_pipeline(source, stages, ordered=True, chunk_size=2, timeout=150.0)

    assert ran.error is None
    assert ran.rows == [(number, number, 2 * size) for number in range(6)]


def large(kind: str, number: int, size: int) -> Any:
    data = bytes([number]) * size
    if kind == "array":
        import numpy as np

        return np.frombuffer(data, dtype=np.uint8)
    return bytearray(data) if kind == "bytearray" else data


def echo_twice(item: Any) -> Any:
    if hasattr(item, "dtype"):
        import numpy as np

        return np.concatenate([item, item])
    return item * 2


def ends(item: Any) -> tuple[int, int, int]:
    return int(item[0]), int(item[-1]), len(item)


def test_worker_processes_do_not_inherit_the_task_s_descriptors() -> None:
    """The supervisor of a task waits for the end of its pipes: no worker may hold them open."""
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    try:
        ran = run_shape(Stage(list_descriptors, kind="process", workers=1), "alone", range(1))
    finally:
        os.close(reader)
        os.close(writer)

    (targets,) = ran.rows
    assert len(targets) <= 8, targets
    assert len([target for target in targets if target.startswith("socket:")]) == 1, targets


def list_descriptors(item: int) -> list[str]:
    return [str(link) for entry in os.scandir("/proc/self/fd") if (link := _link(entry.path))]


def _link(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115
    except OSError:
        return ""


def test_workers_stay_in_the_process_group_of_the_task() -> None:
    """Airflow ends a task by its process group."""
    ran = run_shape(Stage(group_of, kind="process", workers=1), "alone", range(1))

    assert ran.rows == [os.getpgrp()]


def group_of(item: int) -> int:
    return os.getpgrp()


def test_worker_environment_is_set_in_workers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets travel this way: not in the arguments, not in the environment of the task or the fork server's start."""
    monkeypatch.delenv("AIRFLOW_CONN_SECRET", raising=False)
    secret = {"AIRFLOW_CONN_SECRET": "postgres://u:p@h/d"}

    ran = run_shape(Stage(environment, kind="process", workers=1), "alone", range(1), worker_env=secret)

    value, command, initial, mode = ran.rows[0]
    assert value == secret["AIRFLOW_CONN_SECRET"]
    assert "postgres" not in command
    assert "postgres" not in initial
    assert mode == "1"
    assert "AIRFLOW_CONN_SECRET" not in os.environ


def environment(item: int) -> tuple[str, str, str, str]:
    parent = Path(f"/proc/{os.getppid()}")
    return (
        os.environ["AIRFLOW_CONN_SECRET"],
        parent.joinpath("cmdline").read_text() + Path("/proc/self/cmdline").read_text(),
        parent.joinpath("environ").read_text(),
        os.environ.get("PYTHON_OPERATORS_VIRTUAL_ENV_MODE", ""),
    )


def test_what_workers_log_and_print_reaches_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        run_shape(Stage(say, name="talker", kind="process", workers=1), "alone", range(3))

    text = caplog.text
    assert "logged 0" in text
    assert "logged 2" in text
    assert "printed 1" in text
    assert "complained 1" in text
    logged = next(record for record in caplog.records if "logged 0" in record.getMessage())
    assert logged.levelno == logging.WARNING
    assert "talker" in logged.getMessage()


def say(item: int) -> int:
    logging.getLogger("user.code").warning("logged %d", item)
    print(f"printed {item}", flush=True)
    os.write(2, f"complained {item}\n".encode())
    return item


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_a_worker_printed_before_it_was_killed_reaches_the_log(
    unbuffered: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was once kept back until there were 8 KiB of it."""
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)

    with caplog.at_level(logging.INFO):
        ran = run_pipeline(range(3), [Stage(last_words, kind="process", workers=1)], tolerance=3)

    assert ran.rows == [0, 2]
    assert "printed before 1" in caplog.text


def last_words(item: int) -> int:
    print(f"printed before {item}")
    if item == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_a_flood_of_log_records_is_cut_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        ran = run_shape(Stage(flood_log, kind="process", workers=1), "alone", range(2))

    assert ran.error is None
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) < 5_000
    assert any("dropped" in line for line in lines)


def flood_log(item: int) -> int:
    for number in range(20_000):
        logging.getLogger("user.code").info("record %d", number)
    return item


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_whole_group_is_not_blamed_on_an_item(number: signal.Signals, tmp_path: Path) -> None:
    """A supervisor signals the group: workers fall at once, the task follows a moment later. Not the items' fault."""
    token, meeting = StopToken(), Meeting.at(tmp_path / "meeting")

    def call(item: int) -> None:
        meeting.arrive(str(os.getpid()))
        bad.sleep_for_ever()

    def end_group() -> None:
        worker = int(meeting.expect())
        fork_server = psutil.Process(worker).ppid()
        for pid in (worker, fork_server):
            os.kill(pid, number)
        token.stop("SIGTERM")

    with in_background(end_group), pytest.raises(RunFailed) as caught:
        Pipeline(range(9), [Stage(call, kind="process", workers=1)], RecordingSink(), tolerance=9).run(stop=token)

    assert caught.value.report is not None
    assert caught.value.report.state == "stopped"
    assert caught.value.report.failures == []
