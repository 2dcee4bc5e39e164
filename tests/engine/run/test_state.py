"""The state that the parts of a run share, and the thread on which a sink is asked for the state of the source."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from airflow_parallel_provider import ListSink, Pipeline, StopToken
from airflow_parallel_provider.engine.run.run import SINK_THREAD
from airflow_parallel_provider.engine.run.state import RunState
from airflow_parallel_provider.errors import RunFailed, RunStopped, ToleranceExceeded


def state_of(**settings: Any) -> RunState:
    return RunState(Pipeline([1], [], ListSink(), **settings), StopToken())


def drain(state: RunState) -> None:
    while not state.mailbox.empty():
        state.mailbox.get()()


def test_only_the_first_error_ends_a_run() -> None:
    state, first = state_of(), RunFailed("first")

    state.fail(first)
    state.fail(RunFailed("second"))
    state.crashed(ZeroDivisionError("third"))

    assert state.error is first
    assert not state.may_commit()


def test_an_error_after_the_success_changes_nothing() -> None:
    state = state_of()

    state.sink_done()
    drain(state)
    state.fail(RunFailed("too late"))

    assert (state.over, state.error) == (True, None)


def test_a_request_to_stop_is_carried_out_by_the_calling_thread() -> None:
    """It may come in a signal handler, which takes no lock."""
    state = state_of()
    state.stop_requested.listen(state.on_stop_requested)

    state.stop_requested.stop("marked as failed")

    assert (state.error, state.may_commit()) == (None, False)
    drain(state)
    assert isinstance(state.error, RunStopped)
    assert (str(state.error), state.error.reason) == ("stopped: marked as failed", "marked as failed")


def test_the_tolerance_is_checked_while_items_fail_and_at_the_end() -> None:
    state = state_of(tolerance=0.5)
    state.tolerance.items_read = lambda: 4

    for _ in range(3):
        state.record_dead_letter(1.0, items=1)
    assert state.error is None, "of a source of unknown length, 20 items are assumed"
    assert not state.may_finish()

    assert isinstance(state.error, ToleranceExceeded)
    assert str(state.error) == "3 of 4 items failed, tolerance is 50% of the items"


def test_a_warning_is_kept_once() -> None:
    state = state_of()

    state.warn("careful")
    state.warn("careful")

    assert state.warnings == ["careful"]


class ThreadSink(ListSink):
    """Notes the threads of its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: dict[str, str] = {}

    def source_state(self) -> Mapping[str, Any] | None:
        self.threads["source_state"] = threading.current_thread().name
        return None


def test_the_source_state_is_read_on_the_thread_of_the_sink() -> None:
    """A database connection that `open` made must not change threads."""
    sink = ThreadSink()

    Pipeline([1], [], sink).run()

    assert sink.threads == {"source_state": SINK_THREAD}


def test_a_failure_in_the_chunk_of_another_shard_is_no_failure_and_is_never_committed() -> None:
    state = state_of()
    state.own_part_done()
    state.record_dead_letter(1.0, items=1)
    before: list[RunFailed | None] = [state.error]

    state.forgive_help()

    assert isinstance(before[0], ToleranceExceeded)
    assert [state.error, state.over, state.help_failed] == [None, True, True]
    assert not state.may_commit()
    assert any("is left to that shard" in warning for warning in state.warnings)


def test_a_failure_in_a_chunk_of_its_own_is_not_forgiven() -> None:
    state = state_of()
    state.record_dead_letter(1.0, items=1)

    state.forgive_help()

    assert isinstance(state.error, ToleranceExceeded)
