"""One load over an executor: on a real process pool, with workers killed, a stop, shards that fail."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing, suppress
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any

import psutil
import pytest

from airflow_parallel_provider import Pipeline, PlanError, SinkFiles, SinkTable, Stage, StopToken
from airflow_parallel_provider.errors import HopelessShard, NotPicklable, RunStopped, ShardFailed, SinkFailed
from tests.support.lakes import Lake
from tests.support.parts import rows_of_parts
from tests.support.sync import WAIT_SECONDS

pytestmark = pytest.mark.airflow


CONTEXT = multiprocessing.get_context("forkserver")
PRELOADED = [
    "airflow.sdk",
    "airflow.providers.sqlite.hooks.sqlite",
    "airflow_parallel_provider.sinks.load.table_loader",
]


@pytest.fixture(autouse=True, scope="module")
def server() -> None:
    """Two processes of ``multiprocessing`` that stay until the interpreter ends: no test has left them behind.

    The pools fork from one that has imported Airflow: to import it takes a second of CPU time for each worker else.
    """
    CONTEXT.set_forkserver_preload(PRELOADED)
    resource_tracker.ensure_running()
    forkserver.ensure_running()


@pytest.fixture(autouse=True)
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "w.db"
    monkeypatch.setenv("AIRFLOW_CONN_W", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    return path


def pool(workers: int = 2) -> ProcessPoolExecutor:
    given = {"AIRFLOW_CONN_W": os.environ["AIRFLOW_CONN_W"]}
    return ProcessPoolExecutor(workers, mp_context=CONTEXT, initializer=set_variables, initargs=(given,))


def set_variables(values: dict[str, str]) -> None:
    os.environ.update(values)


def row(number: int) -> dict[str, int]:
    return {"id": number}


def pipeline(stage: Any = row, source: Any = range(200), sink: Any = None, **options: Any) -> Pipeline:
    how = {name: options.pop(name) for name in ("write_disposition", "primary_key") if name in options}
    made = sink or SinkTable("t", conn_id="w", columns={"id": int}, aggregates={"n": "count"}, **how)
    return Pipeline(source, [Stage(stage)], made, **{"chunk_size": 10, "load_key": "l", **options})


def ids(database: Path) -> list[int]:
    with closing(sqlite3.connect(database)) as connection:
        return [each for (each,) in connection.execute("SELECT id FROM t ORDER BY 1")]


def killed_once(marks: str) -> Callable[[int], dict[str, int]]:
    """A function that kills its shard's process at some items, each time another one, once."""

    def work(number: int) -> dict[str, int]:
        if number % 50 == 25:
            try:
                os.close(os.open(f"{marks}/{number}", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return row(number)
            os.kill(os.getpid(), signal.SIGKILL)
        return row(number)

    return work


@pytest.mark.parametrize("how", ["append", "merge", "replace"])
def test_workers_are_killed_and_rows_are_exact(database: Path, tmp_path: Path, how: str) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    seen: list[dict[str, Any]] = []
    options = {"write_disposition": how, **({"primary_key": "id", "ordered": False} if how == "merge" else {})}
    made = pipeline(killed_once(str(marks)), **options)

    report = made.run_sharded(3, pool, tries=9, observe=seen.append, observe_every=0.1)

    assert ids(database) == list(range(200))
    assert (report.rows_committed, report.chunks_committed, report.aggregates) == (200, 20, {"n": 200})
    assert len(list(marks.iterdir())) == 4
    assert [each["state"] for each in report.shards] == ["success"] * 3
    assert sum(each["tries"] for each in report.shards) > 4
    assert any("made again" in warning for warning in report.warnings)
    assert report.items_read == report.items_committed == 200
    assert report.items_per_second > 0
    assert (seen[-1]["final"], seen[-1]["rows_committed"], seen[-1]["items_total"]) == (True, 200, 200)
    assert json.loads(json.dumps(report.as_dict(), allow_nan=False)) == report.as_dict()


def test_functions_of_a_file_that_nobody_can_import_travel(database: Path, tmp_path: Path) -> None:
    """As Airflow imports a DAG file, under a name of its own."""
    file = tmp_path / "dag.py"
    file.write_text(
        "from airflow_parallel_provider import Pipeline, SinkTable, Stage\n"
        "def numbers():\n    yield from range(40)\n"
        "def row(number):\n    return {'id': number + offset}\n"
        "def good(row):\n    return row['id'] >= offset\n"
        "offset = 7\n"
        "pipeline = Pipeline(numbers, [Stage(row)], SinkTable('t', conn_id='w', validate=good), chunk_size=10, "
        "load_key='l')\n"
    )
    import importlib.util
    import sys

    spec = importlib.util.spec_from_file_location("unusual_prefix_1_dag", file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        report = module.pipeline.run_sharded(2, pool)
    finally:
        del sys.modules[spec.name]

    assert report.rows_committed == 40
    assert ids(database) == list(range(7, 47))


def test_stages_in_processes_too(database: Path) -> None:
    # Without help, each item reaches the stage once.
    stages = [Stage(row, kind="process", workers=1)]
    made = Pipeline(range(60), stages, pipeline().sink, chunk_size=10, load_key="l", balance=False)

    report = made.run_sharded(2, pool)

    assert ids(database) == list(range(60))
    assert [(stage.name, stage.kind, stage.items_in, stage.workers) for stage in report.stages] == [
        ("row", "process", 60, 2)
    ]
    assert report.cpu_seconds > 0
    assert report.peak_rss_bytes > 0


def waits_for(file: str) -> Callable[[int], dict[str, int]]:
    """A function whose last items wait until there is a file."""

    def work(number: int) -> dict[str, int]:
        deadline = time.monotonic() + WAIT_SECONDS
        while number >= 160 and not Path(file).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        return row(number)

    return work


def sink_of(kind: str, place: Path, how: Any) -> Any:
    if kind in ("jsonl", "parquet"):
        return SinkFiles(str(place), format=kind, write_disposition=how)
    options = {"primary_key": "id"} if how == "merge" else {}
    return Lake(kind, place).sink(write_disposition=how, **options)


LONG_FORMS = [
    ("jsonl", "append"),
    ("parquet", "append"),
    ("parquet", "replace"),
    ("delta", "append"),
    ("delta", "replace"),
]
LONG_FORMS += [("iceberg", "append"), ("iceberg", "merge")]


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("jsonl", "replace"),
        ("delta", "merge"),
        ("iceberg", "replace"),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in LONG_FORMS),
    ],
)
def test_folders_and_lakes_are_written_too_and_seen_while_they_are(tmp_path: Path, kind: str, how: str) -> None:
    place, seen = tmp_path / "out", tmp_path / "seen"
    shown: list[dict[str, Any]] = []

    def observe(snapshot: dict[str, Any]) -> None:
        if not snapshot["final"] and all(shard["chunks"] and shard["host"] for shard in snapshot["shards"]):
            shown.append(snapshot)
            seen.touch()

    options = {"ordered": False} if how == "merge" else {}
    made = pipeline(waits_for(str(seen)), sink=sink_of(kind, place, how), **options)
    report = made.run_sharded(2, pool, observe=observe, observe_every=0.1)

    assert (report.rows_committed, report.chunks_committed, report.seconds > 0) == (200, 20, True)
    assert seen.exists()
    assert 0 < shown[0]["rows_committed"] == shown[0]["items_read"] < 200
    assert [each["state"] for each in shown[0]["shards"]] == ["running", "running"]
    assert sum(each["rows"] for each in shown[0]["shards"]) == shown[0]["rows_committed"]
    assert [(each["state"], each["chunks"], each["rows"]) for each in report.shards] == [("success", 10, 100)] * 2
    if kind in ("jsonl", "parquet"):
        assert len(list(place.glob("part-*"))) == 20
    else:
        assert [each["id"] for each in Lake(kind, place).rows()] == list(range(200))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jsonl", "parquet", "delta", "iceberg"])
def test_folders_and_lakes_stay_exact_while_workers_are_killed(tmp_path: Path, kind: str) -> None:
    place, marks = tmp_path / "out", tmp_path / "marks"
    marks.mkdir()
    made = pipeline(killed_once(str(marks)), sink=sink_of(kind, place, "replace"))

    report = made.run_sharded(3, pool, tries=9)

    assert len(list(marks.iterdir())) == 4
    assert (report.rows_committed, report.chunks_committed, report.items_read) == (200, 20, 200)
    if kind in ("jsonl", "parquet"):
        (manifest,) = place.glob("_manifest-*")
        record = json.loads(manifest.read_text())
        found = rows_of_parts(record, lambda name: (place / name).read_bytes())
    else:
        found = Lake(kind, place).rows()
    assert sorted(each["id"] for each in found) == list(range(200))


def fails(number: int) -> dict[str, int]:
    if number == 64:
        raise OSError("not today")
    return row(number)


def test_shard_that_fails_in_all_tries_is_named_and_the_others_are_let_end(database: Path) -> None:
    def sick(number: int) -> dict[str, int]:
        if number == 64:
            os.kill(os.getpid(), signal.SIGKILL)
        return row(number)

    made = Pipeline(range(200), [Stage(sick)], pipeline().sink, chunk_size=10, load_key="l", balance=False)
    with pytest.raises(ShardFailed, match=r"shard 0 of 2 failed in 2 tries, last with: its worker was lost") as failed:
        made.run_sharded(2, lambda: OneByOne(pool), tries=2)

    assert failed.value.report is not None
    assert [each["state"] for each in failed.value.report.shards] == ["failed", "success"]
    assert failed.value.report.chunks_committed == len(ids(database)) // 10 >= 10
    # The next run of the same load goes on with what is missing.
    assert pipeline().run_sharded(3, pool).rows_committed == len(ids(database)) == 200


class OneByOne:
    """Each call in a pool of its own, so that one that is killed takes no other with it."""

    def __init__(self, make: Callable[[], ProcessPoolExecutor]) -> None:
        self.make = make
        self.pools: list[ProcessPoolExecutor] = []

    def submit(self, *call: Any) -> Future[Any]:
        self.pools.append(self.make())
        return self.pools[-1].submit(*call)

    def shutdown(self, *, wait: bool) -> None:
        for each in self.pools:
            each.shutdown(wait=wait)


def test_error_that_no_try_can_cure_ends_the_run_at_once(database: Path) -> None:
    with pytest.raises(HopelessShard, match=r"shard 0 of 2 failed, and no other try.*1 of .* items failed"):
        pipeline(fails).run_sharded(2, pool)


def test_missing_connection_of_a_worker_is_told(database: Path) -> None:
    def bare() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, mp_context=CONTEXT)

    with pytest.raises(HopelessShard, match=r"no such connection in Airflow.*\(on "):
        pipeline().run_sharded(1, bare)


def test_stop_ends_the_run_and_its_workers(database: Path, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    pids = tmp_path / "pids"

    def waits(number: int) -> dict[str, int]:
        with pids.open("a") as file:
            file.write(f"{os.getpid()}\n")
        begun.touch()
        time.sleep(60)
        return row(number)

    stop = StopToken()

    def watch(_: Any) -> None:
        if begun.exists():
            stop.stop("seen enough")

    with pytest.raises(RunStopped, match="seen enough") as stopped:
        pipeline(waits).run_sharded(3, pool, stop=stop, observe=watch, observe_every=0.1)

    assert stopped.value.report is not None
    assert stopped.value.report.state == "stopped"
    assert _left_alive(pids.read_text().split()) == []
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT coordinator FROM airflow_parallel_ledger__loads").fetchall() == [("",)]


def _left_alive(pids: Iterable[str]) -> list[psutil.Process]:
    """Those that have not been killed; a killed one needs a moment to end."""
    found = []
    for pid in set(pids):
        with suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(int(pid)))
    return psutil.wait_procs(found, timeout=WAIT_SECONDS)[1]


def test_deadline_of_the_whole_holds_while_shards_wait_in_a_queue() -> None:
    class Never:
        """A cluster without workers."""

        def submit(self, *_: Any) -> Future[Any]:
            return Future()

    with pytest.raises(RunStopped, match=r"longer than Pipeline.timeout=0.5 s"):
        pipeline(timeout=0.5).run_sharded(2, Never)


def test_cluster_that_is_gone_holds_up_neither_stop_nor_deadline() -> None:
    ended = threading.Event()

    class Gone:
        def submit(self, *_: Any) -> Future[Any]:
            ended.wait()
            return Future()

    with pytest.raises(RunStopped, match=r"Pipeline.timeout"):
        pipeline(timeout=0.5).run_sharded(2, Gone)
    ended.set()


def test_executor_that_cannot_be_made_is_tried_again(database: Path) -> None:
    made: list[int] = []

    def later() -> ProcessPoolExecutor:
        made.append(1)
        if len(made) == 1:
            raise ConnectionError("no scheduler")
        return pool(1)

    report = pipeline().run_sharded(1, later)

    assert (report.rows_committed, report.shards[0]["tries"]) == (200, 2)


def test_second_run_takes_over_and_the_shards_of_the_first_stop(database: Path) -> None:
    """As when a task is started again while its shards of before still run on a cluster."""
    answers: list[bytes] = []

    class Later:
        """Makes the calls when it is too late for them."""

        calls: tuple[Any, ...] = ()

        def submit(self, *call: Any) -> Future[Any]:
            self.calls = call
            calls.append(call)
            return Future()

    calls: list[tuple[Any, ...]] = []
    with pytest.raises(RunStopped):
        pipeline(timeout=0.5).run_sharded(2, Later)
    assert pipeline().run_sharded(2, pool).rows_committed == 200
    answers += [function(*arguments) for function, *arguments in calls]

    assert len(answers) == 2
    for answer in map(json.loads, answers):
        assert (answer["ok"], answer["terminal"]) == (False, True)
        assert "another one has taken over" in answer["error"]
    assert len(ids(database)) == 200


class Twice:
    """Runs each call twice, the second time without a word, as Dask and Ray do with calls of lost workers."""

    def __init__(self) -> None:
        self.pool = pool()

    def submit(self, *call: Any) -> Future[Any]:
        self.pool.submit(*call)
        return self.pool.submit(*call)


def test_call_that_an_engine_makes_twice_counts_once(database: Path) -> None:
    report = pipeline().run_sharded(3, Twice)

    assert (report.rows_committed, len(ids(database))) == (200, 200)


@pytest.mark.parametrize(
    ("shards_on", "message"),
    [
        (None, "shards_on=None: give a function"),
        (object, "submit"),
        (lambda: ThreadPoolExecutor(1), "shards_on=.*would be threads of this process"),
        (lambda: ProcessPoolExecutor(1, multiprocessing.get_context("fork")), "would be copies of this one"),
    ],
)
def test_what_is_no_executor_is_refused(shards_on: Any, message: str) -> None:
    with pytest.raises((PlanError, HopelessShard), match=message):
        pipeline().run_sharded(2, shards_on)


def test_executor_itself_is_refused() -> None:
    with pool() as made, pytest.raises(PlanError, match=r"give a function that makes it"):
        pipeline().run_sharded(2, made)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, "4", 4097, 2.5])
def test_number_of_shards_is_checked(count: Any) -> None:
    with pytest.raises(PlanError, match=r"run_sharded\(shards\)"):
        pipeline().run_sharded(count, pool)


def test_what_cannot_travel_is_named() -> None:
    lock = threading.Lock()

    def locked() -> Iterator[int]:
        with lock:
            yield 1

    with pytest.raises(NotPicklable, match=r"Pipeline.source=.*travels to other processes, and cannot"):
        pipeline(source=locked).run_sharded(2, pool)


def test_end_that_fails_keeps_the_figures(database: Path) -> None:
    class Unfinished(SinkTable):
        def finish(self) -> None:
            raise OSError("disk full")

    sink = Unfinished("t", conn_id="w", columns={"id": int})
    with pytest.raises(SinkFailed, match="disk full") as failed:
        pipeline(sink=sink).run_sharded(2, pool)

    assert failed.value.report is not None
    assert [each["state"] for each in failed.value.report.shards] == ["success", "success"]
