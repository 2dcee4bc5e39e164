# SPDX-License-Identifier: Apache-2.0
"""An executor for Ray, which has none of its own: each call is a Ray task."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any


class RayExecutor:
    """Submits calls as Ray tasks; see :func:`ray_executor`."""

    def __init__(self, **options: Any) -> None:
        import ray

        if not ray.is_initialized():
            ray.init()
        self._ray = ray
        self._remote = ray.remote(max_retries=0, **options)(_call)
        self._sent: list[Any] = []

    def submit(self, function: Any, /, *arguments: Any) -> Future[Any]:
        """Have a call made."""
        self._sent.append(self._remote.remote(function, *arguments))
        future: Future[Any] = self._sent[-1].future()
        return future

    def shutdown(self, *, wait: bool = True) -> None:
        """End what runs, unless it is waited for."""
        if wait:
            self._ray.wait(self._sent, num_returns=len(self._sent))
            return
        for reference in self._sent:
            self._ray.cancel(reference, force=True)


def ray_executor(**options: Any) -> RayExecutor:
    """An executor whose calls are Ray tasks, for ``shards_on``.

    ::

        pipeline.run_sharded(64, ray_executor)
        pipeline.run_sharded(64, lambda: ray_executor(num_cpus=2, resources={"big": 1}))

    Where Ray is not connected yet, ``ray.init()`` finds the cluster (``RAY_ADDRESS``) or starts one on this machine. A
    stop asks Ray to end the tasks that run.

    Run with Ray 2.60 on one machine: workers killed, a stop (``make test-ray``). Not tried: several machines.

    :param options: of ``ray.remote``: ``num_cpus``, ``resources``, ``runtime_env``, ... ``max_retries`` is 0: the run
        submits what is lost.

    Known limitations: if Ray's control store is lost, Ray ends the task's process after a minute. A resource that no
    node has is waited for until ``Pipeline.timeout``. Everything travels in the clear, unless Ray is set up for TLS.
    """
    return RayExecutor(**options)


def _call(function: Any, *arguments: Any) -> Any:
    return function(*arguments)
