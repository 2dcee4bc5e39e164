# SPDX-License-Identifier: Apache-2.0
"""Programs in which threads are greenlets (gevent, eventlet): what a process stage can live with there."""

from __future__ import annotations

import sys

from airflow_parallel_provider.errors import PlanError

_ELSEWHERE = "or run the task where nothing is patched (Celery: `celery worker --pool prefork`), or use kind='thread'"

_TOGETHER = ("threading", "select", "socket", "queue", "subprocess", "time")
"""What gevent must have patched, if it has patched one of the first three: otherwise a native wait stops all greenlets,
or native threads share a socket that gevent ties to one thread."""


def check_patches() -> None:
    """Refuse a program in which the wait for one worker process would stop all its threads.

    ``gevent.monkey.patch_all()`` is fine: its ``select.poll`` lets the other greenlets run. eventlet has no ``poll``.

    :raises PlanError: naming the library and the cure.
    """
    gevent = sys.modules.get("gevent.monkey")
    if gevent is not None and any(map(gevent.is_module_patched, _TOGETHER[:3])):
        missing = [name for name in _TOGETHER if not gevent.is_module_patched(name)]
        if missing:
            cure = f"gevent has not patched {', '.join(missing)}: call `gevent.monkey.patch_all()`, {_ELSEWHERE}"
            raise PlanError("Stage.kind", "process", cure)
    eventlet = sys.modules.get("eventlet.patcher")
    if eventlet is not None and any(map(eventlet.is_monkey_patched, ("thread", "select", "socket"))):
        cure = f"eventlet has patched this program, and a process stage cannot run in it: use gevent, {_ELSEWHERE}"
        raise PlanError("Stage.kind", "process", cure)
