# SPDX-License-Identifier: Apache-2.0
"""The run that has a load's shards done by an executor: submits them, waits, submits again what failed, finishes.

::

    calling thread    waits for what the others tell; looks at the stop token and the deadline
    parallel-submit   makes the executor and submits: either may wait for a cluster that is gone
    parallel-sink     keeps the sink open: what is committed by now; tells the shards to stop

The executor may run a shard twice, at once, or half, and may say nothing of it: a shard skips what is in.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import uuid4

from airflow_parallel_provider.checks import check_positive, check_whole
from airflow_parallel_provider.engine.interfaces.stop import StopToken
from airflow_parallel_provider.engine.plan.pipeline_plan import PipelinePlan
from airflow_parallel_provider.engine.shards.executors import MakeExecutor, check_factory
from airflow_parallel_provider.engine.shards.progress import LoadProgress, SentShard
from airflow_parallel_provider.engine.shards.sharded import begin_load, check_sharded, finish_load
from airflow_parallel_provider.engine.shards.shipping import Outcome, Surroundings, run_shipped, ship
from airflow_parallel_provider.engine.shards.sink_visit import LoadWatch
from airflow_parallel_provider.engine.shards.submitter import Submitter
from airflow_parallel_provider.errors import HopelessShard, RunFailed, RunStopped, ShardFailed
from airflow_parallel_provider.report import RunReport, State

log = logging.getLogger("airflow_parallel_provider")

MOST_SHARDS = 4096
_WAIT = 0.2
"""Seconds between two looks at the stop token and the deadline."""
_LONGEST_PAUSE = 30.0
"""Seconds before a shard is submitted again, at most; the second try follows at once."""

Observer = Callable[[dict[str, Any]], object]


class Coordinator:
    """Runs one load over an executor. Use once.

    The parameters are those of :meth:`Pipeline.run_sharded`.
    """

    def __init__(
        self,
        plan: PipelinePlan,
        shards: int,
        shards_on: MakeExecutor,
        *,
        tries: int,
        stop: StopToken,
        observe: Observer | None,
        observe_every: float,
        surroundings: Surroundings | None,
    ) -> None:
        check_whole("Pipeline.run_sharded(shards)", shards, 1, MOST_SHARDS)
        check_whole("Pipeline.run_sharded(tries)", tries)
        check_positive("Pipeline.run_sharded(observe_every)", observe_every)
        check_factory(shards_on)
        self._plan = plan
        self._sink = check_sharded(plan)
        self._shards_on = shards_on
        self._tries = tries
        self._stop = stop
        self._observe = observe
        self._every = observe_every
        self._surroundings = surroundings
        self._mailbox: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._shards = [SentShard(index, shards) for index in range(shards)]
        self._progress = LoadProgress(plan, self._shards)
        self._began = time.monotonic()
        self._next_look = 0.0

    def run(self) -> RunReport:
        """Run it to its end, on the calling thread.

        :raises RunFailed: one of its subclasses; ``.report`` has the figures of all shards, as far as they are known.
        """
        self._plan.coordinator = uuid4().hex
        shipped = ship(self._plan, self._surroundings)
        try:
            begin_load(self._plan, self._stop)
            self._work(shipped)
            whole = finish_load(self._plan, self._stop, self._progress.reports())
        except RunFailed as error:
            state: State = "stopped" if isinstance(error, RunStopped) else "failed"
            error.report = self._progress.report(state, str(error))
            self._tell(error.report, final=True)
            raise
        whole = self._progress.completed(whole)
        self._tell(whole, final=True)
        return whole

    def _work(self, shipped: bytes) -> None:
        watch = LoadWatch(self._plan, self._sink, self._progress.look)
        submitter = Submitter(self._shards_on, self._warn_of_plain_address)
        done = False
        try:
            while any(not shard.done for shard in self._shards):
                self._submit(submitter, shipped)
                self._wait(watch)
                self._check_end()
            done = True
        finally:
            submitter.close(kill=not done)
            watch.end(dismiss=not done)

    def _submit(self, submitter: Submitter, shipped: bytes) -> None:
        """Submit what waits and may be tried now."""
        now = time.monotonic()
        for shard in self._shards:
            if shard.done or shard.is_out or shard.tries >= self._tries or now < shard.not_before:
                continue
            shard.is_out, shard.tries = True, shard.tries + 1
            call = (run_shipped, shipped, shard.index, shard.of, shard.tries, self._seconds_left())
            submitter.submit(call, partial(self._on_outcome, shard, shard.tries))

    def _on_outcome(self, shard: SentShard, attempt: int, outcome: Outcome) -> None:
        """From any thread."""
        self._mailbox.put(partial(self._ended, shard, attempt, outcome))

    def _ended(self, shard: SentShard, attempt: int, outcome: Outcome) -> None:
        outcome = replace(outcome, error=self._plan.worker_hooks.redact(outcome.error))
        shard.end(outcome)
        if outcome.ok:
            log.info("%s is done, on %s", shard.name, outcome.host)
            return
        if outcome.terminal:
            raise HopelessShard(f"{shard.name} failed, and no other try can succeed: {outcome.error}")
        log.warning("%s failed in try %d of %d: %s", shard.name, attempt, self._tries, outcome.error)
        pause = 0.0 if attempt == 1 else min(_LONGEST_PAUSE, 2.0 ** (attempt - 2))
        shard.not_before = time.monotonic() + pause

    def _wait(self, watch: LoadWatch) -> None:
        """Wait for news, a moment at most; then look at the clock."""
        try:
            act = self._mailbox.get(timeout=_WAIT)
            while True:
                act()
                act = self._mailbox.get_nowait()
        except queue.Empty:
            pass
        if time.monotonic() >= self._next_look:
            self._tell(self._progress.report("running", None), final=False)
            watch.look()
            self._next_look = time.monotonic() + max(self._every, self._progress.pause)

    def _check_end(self) -> None:
        """Whether the run has to end although shards are not done.

        :raises RunStopped: if it was asked to, or has taken too long.
        :raises ShardFailed: if no other shard is at work, and those that are left have failed too often.
        """
        if self._stop.is_set:
            raise RunStopped(f"stopped: {self._stop.reason}", None, self._stop.reason)
        left = self._seconds_left()
        if left is not None and left <= 0:
            raise RunStopped(f"the run took longer than Pipeline.timeout={self._plan.timeout:g} s", None, "timeout")
        failed = [shard for shard in self._shards if not shard.done]
        if failed and all(not shard.is_out and shard.tries >= self._tries for shard in failed):
            more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
            raise ShardFailed(f"{failed[0].name}{more} failed in {self._tries} tries, last with: {failed[0].error}")

    def _seconds_left(self) -> float | None:
        limit = self._plan.timeout
        return None if limit is None else limit - (time.monotonic() - self._began)

    def _warn_of_plain_address(self, address: str) -> None:
        """From the submitting thread."""
        text = f"the shards travel to {address} in the clear, with the connections that are declared: use tls://"
        log.warning("%s", text)
        self._mailbox.put(partial(self._progress.warnings.append, text))

    def _tell(self, report: RunReport, *, final: bool) -> None:
        if self._observe is None:
            return
        try:
            self._observe(self._progress.snapshot(report, final=final))
        except Exception:
            log.warning("the observer of the run failed; the run goes on", exc_info=True)
