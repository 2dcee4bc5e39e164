"""What surrounds a run, and what it gives to the run's worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkerHooks:
    """What a run gives to its worker processes beside the functions. All of it may be left out.

    :param begin: called once in the fork server, before it imports the stages' functions; every worker inherits what it
        did. It travels by name or by value, as functions do. What it raises fails the run.
    :param answer: answers what workers ask with :func:`airflow_parallel_provider.engine.ipc.requests.ask`.
    :param preload: is given what the stages' functions will want (see :func:`.needs.imported_modules`) and says what the
        fork server imports once, so that no worker pays for it; in the same notation. What cannot be imported is passed
        over: the function that wants it will say so.
    :param clean: takes out of a text what nobody may read; applied to all that workers print and log, and to the
        causes, warnings and errors of the report.
    """

    on_start: Callable[[], object] | None = None
    handle_request: RequestHandler | None = None
    preload: Callable[[frozenset[str]], Iterable[str]] | None = None
    redact: Callable[[str], str] = str


RequestHandler = Callable[[bytes], bytes]
"""Gives the answer to a question; called on the desk's thread. What it raises is logged, the asker is told of none."""
