# SPDX-License-Identifier: Apache-2.0
"""What a worker needs of its stage: the function, ``setup`` and ``teardown``. It is sent to worker processes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.engine.plan.retry import Retry
from airflow_parallel_provider.foreign.fork_guard import guarded

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.plan.stage import Stage


@dataclass(frozen=True, slots=True)
class BoundFunction:
    """A stage's function as one worker calls it."""

    call: Callable[[Any], Any]
    teardown: Callable[[], Any] | None


@dataclass(frozen=True, slots=True)
class StageFunction:
    """The part of a stage that runs in its workers."""

    stage: str
    function: Any
    setup: Callable[[], Any] | None
    teardown: Callable[[Any], Any] | None
    has_process: bool
    batched: bool
    retry: Retry
    receives_serialized: bool = False
    """Values may arrive serialized: the stage before is a process stage too."""
    returns_serialized: bool = False
    """Results may be sent serialized: the stage after is a process stage too."""

    @classmethod
    def of(cls, stage: Stage, *, receives_serialized: bool = False, returns_serialized: bool = False) -> StageFunction:
        """The part of ``stage`` that its workers need."""
        from airflow_parallel_provider.engine.plan.functions import has_process_method

        return cls(
            stage.name,
            stage.function,
            stage.setup,
            stage.teardown,
            has_process_method(stage.function),
            stage.batched,
            stage.retry,
            receives_serialized,
            returns_serialized,
        )

    def bind(self) -> BoundFunction:
        """Set up one worker; raises what ``setup`` raises.

        An async worker calls ``setup`` itself where there is one: it may be a coroutine function.
        """
        if self.has_process:
            return guarded(self._bind_object)()  # type: ignore[no-any-return]
        if self.setup is None:
            return BoundFunction(self.function, None)
        return self.bind_resource(guarded(self.setup)())

    def bind_resource(self, resource: Any) -> BoundFunction:
        """Bind the function to what ``setup`` returned."""
        function, teardown = self.function, self.teardown

        def call(value: Any) -> Any:
            return function(value, resource)

        return BoundFunction(call, None if teardown is None else guarded(lambda: teardown(resource)))

    def worker_object(self) -> Any:
        """The worker's own stage object: a new instance of the class, or a deep copy of the instance."""
        return self.function() if isinstance(self.function, type) else copy.deepcopy(self.function)

    def _bind_object(self) -> BoundFunction:
        worker = self.worker_object()
        setup = getattr(worker, "setup", None)
        if setup is not None:
            setup()
        teardown = getattr(worker, "teardown", None)
        return BoundFunction(worker.process, None if teardown is None else guarded(teardown))
