"""``make soak``: loads into PostgreSQL, one after the other, while a worker process is killed every second.

Each load has a thread, a process and a coroutine stage (:mod:`.soak_stages`) whose calls fail and hang at random. It is
stopped once in its middle and resumed. After each load the database is asked what is missing, there twice or wrong;
between loads memory, descriptors and threads are measured. The exit code is 0 only if nothing was and nothing grew.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil

from airflow_parallel_provider import Pipeline, SinkTable, StopToken
from airflow_parallel_provider.engine.processes.system import children_of
from airflow_parallel_provider.errors import RunStopped
from airflow_parallel_provider.report import RunReport
from tests.chaos.soak_figures import Checked, Figures, Sample
from tests.chaos.soak_stages import always_bad, stages, value_of
from tests.support.databases import PostgresDatabase, TestDatabase

CONN_ID = "parallel_soak"

RATE = 600.0
"""Items per second that enter a load."""

FORK_SERVER_EVERY = 3
"""In every third load the fork server is killed as well, once."""


class Soak:
    """Loads until the time is over.

    :param load_seconds: how long a load would take if nothing went wrong.
    """

    def __init__(self, database: TestDatabase, *, load_seconds: float, seed: int) -> None:
        self._database = database
        self._items = int(RATE * load_seconds)
        self._load_seconds = load_seconds
        self._draw = random.Random(seed)
        self._ended = threading.Event()
        self._kill_server = threading.Event()
        self.figures = Figures()

    def run(self, seconds: float) -> Figures:
        """Begin loads for so many seconds, and finish the last one."""
        began = time.monotonic()
        threads = [threading.Thread(target=each, name=f"soak-{each.__name__}") for each in (self._kill, self._watch)]
        for thread in threads:
            thread.start()
        try:
            while time.monotonic() - began < seconds:
                self._load(len(self.figures.loads) + 1)
        finally:
            self._ended.set()
            for thread in threads:
                thread.join()
        self.figures.seconds = time.monotonic() - began
        return self.figures

    # -- one load -----------------------------------------------------------------------------------------------------

    def _load(self, number: int) -> None:
        table = f"soak_{number}"
        if number % FORK_SERVER_EVERY == 0:
            self._kill_server.set()
        with contextlib.suppress(RunStopped):
            self._attempt(table, stop_after=self._draw.uniform(0.2, 0.8) * self._load_seconds)
            raise AssertionError(f"load {number} was over before it was stopped")
        self.figures.stops += 1
        self._attempt(table)
        self.figures.loads.append(check(self._database, table, self._items))
        self._clear(table)
        gc.collect()
        self.figures.between_loads.append(sample())
        print(f"load {number}: {self.figures.loads[-1]}", flush=True)

    def _attempt(self, table: str, stop_after: float | None = None) -> None:
        token = StopToken()
        timer = threading.Timer(stop_after or 0.0, token.stop, ["the soak stops each load once"])
        if stop_after is not None:
            timer.start()
        sink = SinkTable(table, conn_id=CONN_ID, schema=self._database.schema)
        pipeline = Pipeline(
            range(self._items), stages(RATE), sink, chunk_size=200, tolerance=1.0, load_key=table,
            timeout=60.0 + 20 * self._load_seconds,
        )  # fmt: skip
        try:
            self._count(pipeline.run(stop=token))
        except RunStopped as stopped:
            self._count(stopped.report)
            if stopped.reason == "timeout":
                raise AssertionError(f"a load of {self._load_seconds:g} s does not end") from stopped
            raise
        finally:
            timer.cancel()

    def _count(self, report: RunReport | None) -> None:
        assert report is not None
        for stage in report.stages:
            self.figures.retried += stage.retried
            self.figures.timed_out += stage.timed_out
            self.figures.workers_lost += stage.workers_lost

    def _clear(self, table: str) -> None:
        names = [name for name in self._database.tables() if name.startswith(table)]
        self._database.execute(*(f"DROP TABLE {self._database.place(name)}" for name in names))

    # -- threads ------------------------------------------------------------------------------------------------------

    def _kill(self) -> None:
        """Kill a worker process every second."""
        while not self._ended.wait(1.0):
            for server in fork_servers():
                workers = sorted(children_of(server))
                if self._kill_server.is_set() and workers:
                    self._kill_server.clear()
                    self.figures.fork_server_kills += end(server)
                elif workers:
                    self.figures.kills += end(self._draw.choice(workers))

    def _watch(self) -> None:
        while not self._ended.wait(1.0):
            self.figures.in_loads.append(sample())


def end(pid: int) -> bool:
    """SIGKILL; False when the process has ended by itself."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def fork_servers() -> Iterator[int]:
    """Process ids of the fork servers of this process: the children of its guardians."""
    for guardian in children_of(os.getpid()):
        yield from children_of(guardian)


def sample() -> Sample:
    """This process, and its fork server where there is one."""
    process = psutil.Process()
    found = Sample(process.memory_info().rss, process.num_fds(), threading.active_count())
    for server in fork_servers():
        with contextlib.suppress(psutil.Error):
            found.server_memory, found.server = psutil.Process(server).memory_info().rss, server
    return found


def check(database: TestDatabase, table: str, items: int) -> Checked:
    """Compare table and dead letters with what a load of so many items must leave."""
    rows, dead = database.place(table), database.place(f"{table}__dead_letters")
    found = [item for (item,) in database.fetch(f"SELECT id FROM {rows}")]
    given_up = [position for (position,) in database.fetch(f"SELECT position FROM {dead}")]
    values = database.fetch(f"SELECT id, value, doubled FROM {rows}")
    either = {*found, *given_up}
    return Checked(
        items=items,
        rows=len(found),
        dead_letters=len(given_up),
        missing=len(set(range(items)) - either),
        twice=len(found) + len(given_up) - len(either),
        wrong=sum(
            always_bad(item) or value != value_of(item) or doubled != 2 * item for item, value, doubled in values
        ),
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the soak, print its table; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="how long loads are begun (default: 30)")
    parser.add_argument("--load-seconds", type=float, default=None, help="length of one load (default: 60, or a ninth)")
    parser.add_argument("--seed", type=int, default=2013, help="of what the soak itself draws (default: 2013)")
    options = parser.parse_args(arguments)
    seconds = 60 * options.minutes
    logging.disable(logging.WARNING)
    database = PostgresDatabase()
    os.environ[f"AIRFLOW_CONN_{CONN_ID.upper()}"] = as_json(database.connection)
    try:
        soak = Soak(database, load_seconds=options.load_seconds or min(60.0, seconds / 9), seed=options.seed)
        figures = soak.run(seconds)
    finally:
        database.drop()
    print(f"\n{figures.table()}\n")
    for problem in figures.problems():
        print(problem)
    return 1 if figures.problems() else 0


def as_json(connection: Any) -> str:
    """An Airflow connection as the text of an environment variable."""
    parts = ("conn_type", "host", "port", "login", "password", "schema", "extra")
    return json.dumps({part: getattr(connection, part) for part in parts if getattr(connection, part) is not None})


if __name__ == "__main__":
    sys.exit(main())
