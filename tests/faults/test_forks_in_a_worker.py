"""Processes that a user's function forks: they never go on in the place of their parent, nor write into its socket."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import multiprocessing
import multiprocessing.pool
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider import ListSink, Pipeline, Stage
from airflow_parallel_provider.engine.dataflow.chunk import chunk_id
from airflow_parallel_provider.engine.interfaces.records import CommittedChunk
from airflow_parallel_provider.engine.subtasks import sub_map
from tests.support.running import run_pipeline

ITEMS = 200
FORKING = 50
KINDS = ["process", "thread", "inline", "async"]


def come_back() -> None:
    """The classic mistake: the result of fork is not checked."""


def leave() -> None:
    sys.exit(3)


def fail() -> None:
    raise ValueError("the child's own mistake")


CHILDREN: list[tuple[Callable[[], None], int]] = [(come_back, 0), (leave, 3), (fail, 1)]


@dataclass(frozen=True)
class Forking:
    """Notes each call, forks in one of them; the child does ``act`` inside the call, the parent notes how it ended."""

    folder: str
    act: Callable[[], None]

    def note(self, text: object) -> None:
        with open(f"{self.folder}/notes", "a") as notes:  # noqa: PTH123
            notes.write(f"{text}\n")

    def fork(self) -> None:
        pid = os.fork()
        if pid == 0:
            self.act()
        else:
            self.note(f"child {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}")

    def __call__(self, item: int) -> int:
        self.note(item)
        if item == FORKING:
            self.fork()
        return item


@dataclass(frozen=True)
class ForkingCoroutine(Forking):
    async def __call__(self, item: int) -> int:  # type: ignore[override]
        if item % 3:
            await asyncio.sleep(0)
        return super().__call__(item)


def notes_of(folder: Path) -> tuple[list[int], list[str]]:
    """The items that were called with, and what the children left."""
    lines = (folder / "notes").read_text().splitlines()
    return sorted(int(line) for line in lines if line.isdigit()), [line for line in lines if not line.isdigit()]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("act", "code"), CHILDREN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_forked_child_does_not_go_on_as_a_second_worker(
    kind: Any, act: Callable[[], None], code: int, tmp_path: Path
) -> None:
    function = (ForkingCoroutine if kind == "async" else Forking)(str(tmp_path), act)

    ran = run_pipeline(range(ITEMS), [Stage(function, kind=kind, workers=1)], ordered=True, timeout=60.0)

    calls, children = notes_of(tmp_path)
    assert ran.error is None, ran.error
    assert ran.rows == list(range(ITEMS))
    assert calls == list(range(ITEMS))
    assert children == [f"child {code}"]


def in_setup(forking: Forking) -> None:
    forking.note("setup")
    forking.fork()


def in_teardown(forking: Forking) -> None:
    forking.note("teardown")
    forking.fork()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("kind", ["process", "thread", "inline"])
def test_a_child_of_setup_and_of_teardown_neither(kind: Any, tmp_path: Path) -> None:
    forking = Forking(str(tmp_path), come_back)
    stage = Stage(
        lambda item, _: item,
        kind=kind,
        workers=1,
        setup=lambda: in_setup(forking),
        teardown=lambda _: in_teardown(forking),
    )

    ran = run_pipeline(range(9), [stage], ordered=True, timeout=60.0)

    assert ran.error is None, ran.error
    assert ran.rows == list(range(9))
    assert notes_of(tmp_path)[1] == ["setup", "child 0", "teardown", "child 0"]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_of_a_sub_task_neither(tmp_path: Path) -> None:
    forking = Forking(str(tmp_path), come_back)

    def work(item: int) -> list[int]:
        return list(sub_map(forking, [10 * item + part for part in range(10)], workers=1))

    ran = run_pipeline(range(9), [Stage(work, workers=1)], ordered=True, timeout=60.0)

    assert ran.error is None, ran.error
    assert [part for parts in ran.rows for part in parts] == list(range(90))
    assert notes_of(tmp_path) == (list(range(90)), ["child 0"])


# -- sources, sinks, and pools of the user's own -----------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize(("shard", "skipped"), [(None, 0), ((0, 1), 0), (None, 2)])
@pytest.mark.parametrize(("act", "code"), CHILDREN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_child_of_a_source_reads_no_further(
    act: Callable[[], None], code: int, shard: Any, skipped: int, tmp_path: Path
) -> None:
    """It once read the source to its end, and waited for room for ever."""
    forking = Forking(str(tmp_path), act)

    def items() -> Iterator[int]:
        yield from map(forking, range(ITEMS))

    sink = Half(skipped)
    pipeline = Pipeline(items, [Stage(abs, workers=2)], sink, chunk_size=CHUNK, load_key="forks")
    pipeline.run(shard=shard)

    assert sorted(sink.rows) == list(range(skipped * CHUNK, ITEMS))
    assert notes_of(tmp_path) == (list(range(ITEMS)), [f"child {code}"])


CHUNK = 40


class Half(ListSink):
    """An earlier try has committed some chunks."""

    def __init__(self, chunks: int) -> None:
        super().__init__()
        self.chunks = chunks

    def open(self) -> Any:
        return {chunk_id(at): CommittedChunk(chunk_id(at), CHUNK, CHUNK) for at in range(self.chunks)}

    def check_shards(self) -> None:
        pass

    def finish_shard(self, chunks: int) -> None:
        pass


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize(("act", "code"), CHILDREN, ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize("kind", ["function", "class"])
def test_a_child_of_a_sink_commits_nothing(kind: str, act: Callable[[], None], code: int, tmp_path: Path) -> None:
    forking = Forking(str(tmp_path), act)
    committed = threading.Event()

    def write(rows: list[int]) -> None:
        if rows[0] == FORKING:
            committed.wait(30.0)  # the chunks behind this one wait for the sink
        forking(rows[0])

    class Own(ListSink):
        def commit(self, chunk: Any) -> int:
            write(chunk.rows)
            return len(chunk.rows)

    def work(item: int) -> int:
        if item == ITEMS - 1:
            committed.set()
        return item

    sink: Any = write if kind == "function" else Own()
    run_pipeline(range(ITEMS), [Stage(work, workers=1)], sink, chunk_size=10, ordered=True, timeout=60.0)

    assert notes_of(tmp_path) == (list(range(0, ITEMS, 10)), [f"child {code}"])


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize(("act", "code"), CHILDREN, ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize("kind", ["process", "thread"])
def test_a_child_of_an_executor_takes_no_further_task(
    kind: Any, act: Callable[[], None], code: int, tmp_path: Path
) -> None:
    """It once made the calls that waited for the executor a second time, and then waited for others for ever."""
    forking = Forking(str(tmp_path), act)

    def work(item: int) -> list[int]:
        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            return list(executor.map(forking, range(item, item + 20)))

    ran = run_pipeline(range(0, ITEMS, 20), [Stage(work, kind=kind, workers=1)], ordered=True, timeout=60.0)

    assert [part for parts in ran.rows for part in parts] == list(range(ITEMS))
    assert notes_of(tmp_path) == (list(range(ITEMS)), [f"child {code}"])


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("how", ["pool", "thread"])
def test_a_child_of_a_pool_and_of_a_thread_neither(how: str, tmp_path: Path) -> None:
    forking = Forking(str(tmp_path), come_back)

    def work(item: int) -> int:
        parts = range(item, item + 20)
        if how == "pool":
            with multiprocessing.pool.ThreadPool(1) as pool:
                pool.map(forking, parts, chunksize=1)
        else:
            thread = threading.Thread(target=lambda: list(map(forking, parts)))
            thread.start()
            thread.join()
        return item

    ran = run_pipeline(range(0, ITEMS, 20), [Stage(work, workers=1)], ordered=True, timeout=60.0)

    assert ran.rows == list(range(0, ITEMS, 20))
    again = list(range(FORKING + 1, 60)) if how == "thread" else []  # a thread runs one function of the user's
    assert notes_of(tmp_path) == (sorted([*range(ITEMS), *again]), ["child 0"])


# -- what children write ----------------------------------------------------------------------------------------------

RECORDS = 120
"""Below the rate from which records are dropped."""

LONG = "x" * 500

LAST = 29


def helper(name: str) -> None:
    for number in range(RECORDS):
        logging.getLogger("helper").warning("%s record %d %s end", name, number, LONG)
        print(f"{name} prints {number} {LONG} end")


@dataclass(frozen=True)
class WithHelpers:
    """Forks helpers that log while the worker itself logs and answers; waits for them with the last item."""

    start: str

    def __call__(self, item: int) -> bytes:
        if item == 0:
            self.start_helpers()
        for number in range(5):
            logging.getLogger("own").warning("own record %d", number)
        if item == LAST:
            with contextlib.suppress(ChildProcessError):
                while True:
                    os.waitpid(-1, 0)
        return b"y" * 50_000

    def start_helpers(self) -> None:
        context = multiprocessing.get_context("fork")
        if self.start == "multiprocessing":
            for number in range(3):
                context.Process(target=helper, args=(f"helper{number}",)).start()
        elif self.start == "executor":
            with concurrent.futures.ProcessPoolExecutor(3, mp_context=context) as executor:
                list(executor.map(helper, [f"helper{number}" for number in range(3)]))
        elif self.start == "thread":
            thread = threading.Thread(target=self.fork_all)
            thread.start()
            thread.join()
        else:
            self.fork_all()

    def fork_all(self) -> None:
        for number in range(3):
            self.fork(number)

    def fork(self, number: int) -> None:
        if os.fork() == 0:
            helper(f"helper{number}")
            sys.stdout.flush()
            os._exit(0)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("start", ["multiprocessing", "executor", "fork", "thread"])
def test_what_helpers_log_and_print_arrives_whole_and_apart(
    start: str, unbuffered: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their records once went into the worker's own socket, between and inside its answers.

    An unbuffered Python once wrote a line and its newline apart.
    """
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with caplog.at_level(logging.INFO):
        ran = run_pipeline(range(LAST + 1), [Stage(WithHelpers(start), kind="process", workers=1)], timeout=60.0)

    assert ran.error is None, ran.error
    assert len(ran.rows) == LAST + 1
    texts = [record.getMessage() for record in caplog.records]
    assert sum("own record" in text for text in texts) == 150
    for name in ("helper0", "helper1", "helper2"):
        expected = [f"WARNING helper: {name} record {number} {LONG} end" for number in range(RECORDS)]
        assert [text.partition("] ")[2] for text in texts if f"{name} record" in text] == expected
        printed = [f"{name} prints {number} {LONG} end" for number in range(RECORDS)]
        assert [text for text in texts if f"{name} prints" in text] == printed


def test_records_of_a_helper_beyond_the_rate_are_dropped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    def work(item: int) -> int:
        pid = os.fork()
        if pid == 0:
            for number in range(2_000):
                logging.getLogger("helper").warning("record %d", number)
            os._exit(0)
        os.waitpid(pid, 0)
        return item

    with caplog.at_level(logging.INFO):
        ran = run_pipeline([1], [Stage(work, kind="process")], timeout=60.0)

    assert ran.error is None
    texts = [record.getMessage() for record in caplog.records]
    assert 200 <= sum("WARNING helper" in text for text in texts) < 1_500
    assert any("more than 200 log records per second: some are dropped" in text for text in texts)
