"""A worker's beginning and end: ``setup`` that fails once, always or hangs; ``teardown`` that fails or hangs."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider import Retry, Stage
from airflow_parallel_provider.engine.run import run as run_module
from airflow_parallel_provider.engine.workers import connection
from airflow_parallel_provider.errors import SetupFailed, WorkersExhausted
from tests.support import saboteurs as bad
from tests.support.running import run_pipeline
from tests.support.saboteurs import EXPECTED, ITEMS
from tests.support.sync import Gate, Once

KINDS = ["thread", "process", "inline"]


def times(item: int, factor: int) -> int:
    return item * factor


def workers_of(kind: str) -> dict[str, Any]:
    return {} if kind == "inline" else {"workers": 2}


class Setup:
    """A ``setup`` that does ``act`` while ``when`` is true, and returns the factor."""

    def __init__(self, act: Any, when: Any = None) -> None:
        self.act, self.when = act, when

    def __call__(self) -> int:
        if self.when is None or self.when():
            self.act()
        return 10


class Teardown:
    """Writes one line per call."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __call__(self, resource: int) -> None:
        with open(self.path, "a") as file:  # noqa: PTH123 - one short append is atomic
            file.write(f"{resource}\n")


@pytest.mark.parametrize("kind", KINDS)
def test_setup_that_fails_once_costs_nothing(kind: Any, tmp_path: Path) -> None:
    setup = Setup(bad.raise_value, Once(str(tmp_path / "once")))

    ran = run_pipeline(
        range(ITEMS), [Stage(times, kind=kind, setup=setup, **workers_of(kind))], ordered=True, chunk_size=8
    )

    assert ran.error is None
    assert ran.rows == EXPECTED


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("act", [bad.raise_value, bad.raise_picky, bad.raise_unpicklable, bad.raise_system_exit])
def test_setup_that_always_fails_ends_the_run(kind: Any, act: Any) -> None:
    stage = Stage(times, name="model", kind=kind, setup=Setup(act), **workers_of(kind))

    ran = run_pipeline(range(ITEMS), [stage], tolerance=ITEMS)

    assert isinstance(ran.error, SetupFailed)
    assert "model" in str(ran.error)
    assert "setup" in str(ran.error)
    assert {"raise_value": "ValueError", "raise_picky": "PickyError"}.get(act.__name__, "") in str(ran.error)
    assert ran.rows == []
    assert ran.report.seconds < 10


@pytest.mark.parametrize("act", [bad.kill_self, bad.exit_with_code, bad.segfault], ids=lambda act: act.__name__)
def test_setup_that_always_ends_its_process_ends_the_run(act: Any) -> None:
    stage = Stage(times, name="model", kind="process", setup=Setup(act), workers=2)

    ran = run_pipeline(range(ITEMS), [stage], tolerance=ITEMS)

    assert isinstance(ran.error, (SetupFailed, WorkersExhausted))
    assert "model" in str(ran.error)
    assert ran.report.seconds < 10


def test_setup_that_ends_its_process_once_costs_nothing(tmp_path: Path) -> None:
    setup = Setup(bad.kill_self, Once(str(tmp_path / "once")))

    ran = run_pipeline(range(ITEMS), [Stage(times, kind="process", setup=setup, workers=2)], ordered=True)

    assert ran.error is None
    assert ran.rows == EXPECTED


@pytest.mark.parametrize("act", [bad.sleep_for_ever, bad.spin, bad.block_in_c], ids=lambda act: act.__name__)
def test_setup_that_hangs_in_a_process_ends_the_run(act: Any) -> None:
    stage = Stage(times, name="model", kind="process", setup=Setup(act), setup_timeout=0.3, workers=2)

    ran = run_pipeline(range(ITEMS), [stage], tolerance=ITEMS)

    assert isinstance(ran.error, SetupFailed)
    assert "model" in str(ran.error)
    assert ran.report.seconds < 10


def test_setup_that_hangs_once_in_a_process_costs_nothing(tmp_path: Path) -> None:
    setup = Setup(bad.sleep_for_ever, Once(str(tmp_path / "once")))
    stage = Stage(times, kind="process", setup=setup, setup_timeout=0.5, workers=2)

    ran = run_pipeline(range(ITEMS), [stage], ordered=True)

    assert ran.error is None
    assert ran.rows == EXPECTED


def test_setup_that_hangs_in_a_thread_ends_the_run() -> None:
    gate = Gate()
    stage = Stage(times, name="model", setup=Setup(gate.pass_through), setup_timeout=0.3, workers=2)
    try:
        ran = run_pipeline(range(ITEMS), [stage], tolerance=ITEMS)
    finally:
        gate.open()

    assert isinstance(ran.error, SetupFailed)
    assert "model" in str(ran.error)
    assert ran.report.seconds < 10


def test_setup_of_an_async_stage_may_be_a_coroutine() -> None:
    ended = []

    async def setup() -> int:
        await asyncio.sleep(0)
        return 10

    async def call(item: int, factor: int) -> int:
        return item * factor

    async def teardown(factor: int) -> None:
        ended.append(factor)

    ran = run_pipeline(range(ITEMS), [Stage(call, kind="async", setup=setup, teardown=teardown)], ordered=True)

    assert ran.rows == EXPECTED
    assert set(ended) == {10}


@pytest.mark.parametrize("kind", KINDS)
def test_setup_and_teardown_run_once_per_worker(kind: Any, tmp_path: Path) -> None:
    began, ended = Teardown(tmp_path / "began"), Teardown(tmp_path / "ended")

    def setup() -> int:
        began(1)
        return 10

    ran = run_pipeline(
        range(ITEMS), [Stage(times, kind=kind, setup=setup, teardown=ended, **workers_of(kind))], ordered=True
    )

    assert ran.rows == EXPECTED
    started = Path(began.path).read_text().splitlines()
    stopped = Path(ended.path).read_text().splitlines()
    assert 1 <= len(started) <= (1 if kind == "inline" else 2)
    assert stopped == ["10"] * len(started)


@pytest.mark.parametrize("kind", KINDS)
def test_teardown_that_raises_does_not_lose_what_was_done(kind: Any) -> None:
    def teardown(factor: int) -> None:
        raise ValueError("cannot let go")

    ran = run_pipeline(range(ITEMS), [Stage(times, kind=kind, setup=Setup(int), teardown=teardown)], ordered=True)

    assert ran.error is None
    assert ran.rows == EXPECTED
    assert any("cannot let go" in warning for warning in ran.report.warnings), "an error may never be swallowed"


@pytest.fixture
def _short_teardowns(monkeypatch: pytest.MonkeyPatch) -> None:
    """One second and two instead of five and eight."""
    monkeypatch.setattr(connection, "TEARDOWN_SECONDS", 1.0)
    monkeypatch.setattr(run_module, "END_SECONDS", 2.0)


@pytest.mark.usefixtures("_short_teardowns")
@pytest.mark.parametrize("act", [bad.sleep_for_ever, bad.spin, bad.block_in_c], ids=lambda act: act.__name__)
def test_teardown_that_hangs_in_a_process_is_ended(act: Any) -> None:
    def teardown(factor: int) -> None:
        act()

    stage = Stage(times, name="model", kind="process", workers=2, setup=Setup(int), teardown=teardown)

    ran = run_pipeline(range(ITEMS), [stage], ordered=True)

    assert ran.error is None
    assert ran.rows == EXPECTED
    assert ran.report.seconds < 15


@pytest.mark.usefixtures("_short_teardowns")
def test_teardown_that_hangs_in_a_thread_is_given_up() -> None:
    gate = Gate()

    def teardown(factor: int) -> None:
        gate.pass_through()

    stage = Stage(times, name="model", workers=2, setup=Setup(int), teardown=teardown)
    try:
        ran = run_pipeline(range(ITEMS), [stage], ordered=True)
        assert not gate.is_open
    finally:
        gate.open()

    assert ran.error is None
    assert ran.rows == EXPECTED
    assert ran.report.seconds < 15


@pytest.mark.parametrize("act", [bad.kill_self, bad.exit_with_code], ids=lambda act: act.__name__)
def test_teardown_that_ends_its_process_does_not_lose_what_was_done(act: Any) -> None:
    def teardown(factor: int) -> None:
        act()

    stage = Stage(times, kind="process", workers=2, setup=Setup(int), teardown=teardown)

    ran = run_pipeline(range(ITEMS), [stage], ordered=True)

    assert ran.error is None
    assert ran.rows == EXPECTED


class Model:
    """A stage as a class: one instance per worker."""

    instances: list[Model] = []  # noqa: RUF012 - shared on purpose

    def setup(self) -> None:
        self.thread = threading.get_ident()
        self.open = True
        Model.instances.append(self)

    def process(self, item: int) -> int:
        assert self.open
        assert self.thread == threading.get_ident(), "an instance belongs to one worker"
        return item * 10

    def teardown(self) -> None:
        self.open = False


def test_a_stage_class_has_one_instance_per_worker() -> None:
    Model.instances.clear()

    ran = run_pipeline(range(ITEMS), [Stage(Model, workers=3)], ordered=True)

    assert ran.rows == EXPECTED
    assert 1 <= len(Model.instances) <= 3
    assert not any(each.open for each in Model.instances)


def test_a_worker_that_is_replaced_is_set_up_again(tmp_path: Path) -> None:
    began = Teardown(tmp_path / "began")

    def setup() -> int:
        began(1)
        return 10

    def call(item: int, factor: int) -> int:
        if item == bad.BAD:
            bad.kill_self()
        return item * factor

    stage = Stage(call, kind="process", workers=1, setup=setup, retry=Retry(2, backoff=0.0))

    ran = run_pipeline(range(ITEMS), [stage], ordered=True, tolerance=1)

    assert ran.positions == [bad.BAD]
    assert Path(began.path).read_text().splitlines() == ["1"] * 3
    assert ran.report.stages[0].workers_lost == 2


def test_a_slow_setup_is_not_taken_for_a_stuck_call() -> None:
    """``timeout`` is for calls: it does not run while ``setup`` does."""

    def setup() -> int:
        time.sleep(1.6)
        return 10

    stage = Stage(times, kind="process", workers=1, setup=setup, timeout=1.2)

    ran = run_pipeline(range(ITEMS), [stage], ordered=True)

    assert ran.error is None
    assert ran.rows == EXPECTED
    assert ran.report.stages[0].timed_out == 0
