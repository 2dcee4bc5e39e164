# SPDX-License-Identifier: Apache-2.0
"""How a shard travels to another process: the pipeline as bytes of our own there, an account as JSON back.

Engines have picklers of their own, which fail for functions of a DAG file, and lose errors that cannot be pickled: so a
call takes and returns bytes only, and never raises.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from airflow_parallel_provider.engine.functions.serialization import by_value_modules
from airflow_parallel_provider.engine.interfaces.stop import StopToken
from airflow_parallel_provider.engine.plan.pipeline_plan import PipelinePlan
from airflow_parallel_provider.engine.plan.worker_hooks import WorkerHooks
from airflow_parallel_provider.errors import NotPicklable, PlanError, RunFailed, TerminalError
from airflow_parallel_provider.foreign.errors import error_text

Surroundings = Callable[[Any], AbstractContextManager[object]]
"""Entered around the run of a shard, where it runs; gets the pipeline. It travels with it."""

_LOOK_EVERY = 0.5
"""Seconds between two looks whether the run that has sent a shard still lives."""

_at_work = 0
_counting = threading.Lock()


@dataclass(frozen=True, slots=True)
class Home:
    """The process that has sent a shard."""

    machine: str
    pid: int
    began: float

    @classmethod
    def here(cls) -> Home:
        """This process."""
        return cls(machine_id(), os.getpid(), psutil.Process().create_time())

    @property
    def is_gone(self) -> bool:
        """Whether it is known to have ended: only a process of the same machine can tell."""
        if self.machine != machine_id():
            return False
        try:
            return psutil.Process(self.pid).create_time() != self.began
        except psutil.Error:
            return True


def machine_id() -> str:
    """The same text for all processes that see each other's process ids, until the machine is started again."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one try of a shard has ended."""

    ok: bool
    error: str = ""
    terminal: bool = False
    """Whether no other try can succeed."""
    host: str = ""
    report: dict[str, Any] | None = None


def ship(plan: PipelinePlan, surroundings: Surroundings | None) -> bytes:
    """What :func:`run_shipped` needs of a pipeline.

    :raises NotPicklable: if source, stages or sink cannot travel; names which.
    """
    import cloudpickle

    bare = copy(plan)
    bare.worker_hooks, bare.worker_env = WorkerHooks(), {}
    with by_value_modules(plan.stages, (plan.source, plan.sink, surroundings)):
        try:
            content: bytes = cloudpickle.dumps((bare, surroundings, Home.here()), protocol=5)
        except Exception as error:
            raise _explained(plan, error) from error
    return pickle.dumps((_version(), content), protocol=5)


def _version() -> str:
    return str(sys.modules[__name__.partition(".")[0]].__version__)


def _explained(plan: PipelinePlan, error: Exception) -> NotPicklable:
    import cloudpickle

    parts = [("source", plan.source), ("sink", plan.sink), *((f"Stage({each.name})", each) for each in plan.stages)]
    for name, part in parts:
        try:
            cloudpickle.dumps(part, protocol=5)
        except Exception as reason:  # noqa: BLE001 - any failure to pickle is the answer
            cure = f"with shards_on= it travels to other processes, and cannot: {error_text(reason)}"
            return NotPicklable(f"Pipeline.{name}", part, f"{cure}. Make it there: in a function, or in `setup`")
    return NotPicklable("Pipeline", plan, f"with shards_on= it travels to other processes, and cannot: {error}")


def run_shipped(shipped: bytes, index: int, of: int, attempt: int, seconds: float | None) -> bytes:
    """Run one shard of a pipeline that has travelled here; return an :class:`Outcome` as JSON. Raises nothing.

    :param attempt: which try of the shard this is, from 1.
    :param seconds: how long it may take; None: no limit.
    """
    host = socket.gethostname()
    try:
        version, content = pickle.loads(shipped)  # noqa: S301 - from the run that has sent this shard
        if version != _version():
            text = f"{host} has airflow-parallel-provider {_version()}, and {version} has sent this shard: install that"
            return _as_json(Outcome(ok=False, error=text, terminal=True, host=host))
        pipeline, surroundings, home = pickle.loads(content)  # noqa: S301 - see above
        pipeline.labels = {**pipeline.labels, "shard": f"{index}/{of}", "host": host}
        pipeline.attempt, pipeline.timeout = attempt, seconds
        outcome = _run(pipeline, (index, of), surroundings, home, host)
    except Exception as error:  # noqa: BLE001 - an engine may lose errors that cannot be pickled
        outcome = Outcome(False, f"{error_text(error)} (on {host})", is_terminal(error), host)
    return _as_json(outcome)


def _run(pipeline: Any, shard: tuple[int, int], surroundings: Surroundings | None, home: Home, host: str) -> Outcome:
    stop, error = StopToken(), None
    with surroundings(pipeline) if surroundings else nullcontext(), _watching(home, stop), _counted() as others:
        try:
            report = pipeline.run(shard=shard, stop=stop)
        except RunFailed as failed:
            error, report = failed, failed.report
    plain = None if report is None else {**report.as_dict(), "series": {}}
    if plain is not None and others():
        plain["warnings"].append(
            f"{host} ran other shards in the same process at that time: CPU time and memory are those of all of them. "
            "Give each worker one thread"
        )
    if error is None:
        return Outcome(True, host=host, report=plain)
    return Outcome(False, f"{error_text(error)} (on {host})", is_terminal(error), host, plain)


@contextlib.contextmanager
def _watching(home: Home, stop: StopToken) -> Iterator[None]:
    """Stop the shard when the process that has sent it is known to have ended."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_LOOK_EVERY):
            if home.is_gone:
                stop.stop("the run that has sent this shard has ended")
                return

    if home.machine == machine_id() and home.pid != os.getpid():
        threading.Thread(target=watch, name="parallel-home", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


@contextlib.contextmanager
def _counted() -> Iterator[Callable[[], bool]]:
    """Count the shards in this process; gives a function that says whether there was another one at the same time."""
    global _at_work
    most = 0
    with _counting:
        _at_work += 1
        most = _at_work
    try:
        yield lambda: max(most, _at_work) > 1
    finally:
        with _counting:
            _at_work -= 1


def is_terminal(error: BaseException | None) -> bool:
    """Whether an error, or one of its causes, is one that another try cannot cure."""
    while error is not None:
        if isinstance(error, (TerminalError, PlanError)):
            return True
        error = error.__cause__
    return False


def _as_json(outcome: Outcome) -> bytes:
    fields = ("ok", "error", "terminal", "host", "report")
    return json.dumps({name: getattr(outcome, name) for name in fields}).encode()


def outcome_of(answer: object) -> Outcome:
    """Read what :func:`run_shipped` has returned.

    :raises TypeError: if it is something else.
    """
    if not isinstance(answer, bytes):
        raise TypeError(f"the executor has returned {type(answer).__qualname__} in place of the shard's account")
    return Outcome(**json.loads(answer))
