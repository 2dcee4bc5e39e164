"""What a team needs to test its own pipelines: no scheduler, no database, no waiting.

::

    from airflow_parallel_provider.testing import Fail, FaultPlan, assert_conserved, run_inline

    def test_bad_rows_become_dead_letters():
        result = run_inline(my_pipeline, items=["1", "two", "3"])
        assert result.rows == [1, 3]
        assert_dead_letters(result, [1])

Names are loaded when they are used: a worker process under a :class:`FaultPlan` imports only what it needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_parallel_provider.testing.checks import (
        assert_all_committed,
        assert_conserved,
        assert_dead_letters,
        conservation_problems,
    )
    from airflow_parallel_provider.testing.clock import VirtualClock, fast_retries
    from airflow_parallel_provider.testing.fault_plan import Fail, FaultPlan, Fired, Kill, Stall
    from airflow_parallel_provider.testing.fault_site import InjectedFault
    from airflow_parallel_provider.testing.inline import InlineResult, run_inline

_WHERE = {
    "Fail": "fault_plan",
    "FaultPlan": "fault_plan",
    "Fired": "fault_plan",
    "InjectedFault": "fault_site",
    "InlineResult": "inline",
    "Kill": "fault_plan",
    "Stall": "fault_plan",
    "VirtualClock": "clock",
    "assert_all_committed": "checks",
    "assert_conserved": "checks",
    "assert_dead_letters": "checks",
    "conservation_problems": "checks",
    "fast_retries": "clock",
    "run_inline": "inline",
}

__all__ = [
    "Fail",
    "FaultPlan",
    "Fired",
    "InjectedFault",
    "InlineResult",
    "Kill",
    "Stall",
    "VirtualClock",
    "assert_all_committed",
    "assert_conserved",
    "assert_dead_letters",
    "conservation_problems",
    "fast_retries",
    "run_inline",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
