# SPDX-License-Identifier: Apache-2.0
"""What the surroundings of a run add to its worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkerHooks:
    """Functions that connect worker processes with the surroundings of the run (Airflow). All of them are optional.

    :param on_start: called once in the fork server, before it imports the stages' functions; every worker inherits the
        effect. It travels by name or by value, as functions do. An error in it fails the run.
    :param handle_request: answers the requests of workers, see :func:`.ipc.requests.request`.
    :param preload: takes the names of the modules that the stages' functions will import (see
        :func:`.functions.import_scan.imported_modules`) and returns, in the same notation, what the fork server imports
        once, so that no worker pays for it. A name that cannot be imported is ignored: the function that needs it
        raises the error.
    :param redact: removes secrets from a text; applied to everything that workers print and log, and to the causes,
        warnings and errors of the report.
    """

    on_start: Callable[[], object] | None = None
    handle_request: RequestHandler | None = None
    preload: Callable[[frozenset[str]], Iterable[str]] | None = None
    redact: Callable[[str], str] = str


RequestHandler = Callable[[bytes], bytes]
"""Answers a request, on the thread of the request server. An error in it is logged; the worker gets no answer."""
