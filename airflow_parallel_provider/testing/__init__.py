# SPDX-License-Identifier: Apache-2.0
"""What a team needs to test its own pipelines: no scheduler, no database, no waiting.

::

    from airflow_parallel_provider.testing import assert_dead_letters, run_inline

    def test_bad_rows_become_dead_letters():
        result = run_inline(my_pipeline, items=["1", "two", "3"])
        assert result.rows == [1, 3]
        assert_dead_letters(result, [1])

Names are imported when they are used: a worker process under a :class:`FaultPlan` imports only what it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_parallel_provider.testing.checks import assert_all_committed as assert_all_committed
    from airflow_parallel_provider.testing.checks import assert_conserved as assert_conserved
    from airflow_parallel_provider.testing.checks import assert_dead_letters as assert_dead_letters
    from airflow_parallel_provider.testing.checks import conservation_problems as conservation_problems
    from airflow_parallel_provider.testing.clock import VirtualClock as VirtualClock
    from airflow_parallel_provider.testing.clock import fast_retries as fast_retries
    from airflow_parallel_provider.testing.fault_plan import Fail as Fail
    from airflow_parallel_provider.testing.fault_plan import FaultPlan as FaultPlan
    from airflow_parallel_provider.testing.fault_plan import Fired as Fired
    from airflow_parallel_provider.testing.fault_plan import Kill as Kill
    from airflow_parallel_provider.testing.fault_plan import Stall as Stall
    from airflow_parallel_provider.testing.fault_site import InjectedFault as InjectedFault
    from airflow_parallel_provider.testing.inline import InlineResult as InlineResult
    from airflow_parallel_provider.testing.inline import run_inline as run_inline
else:

    def __getattr__(name: str) -> Any:
        from airflow_parallel_provider.lazy_exports import load_export

        return load_export(__name__, _EXPORTS, name)


_EXPORTS = {
    "checks": ["assert_all_committed", "assert_conserved", "assert_dead_letters", "conservation_problems"],
    "clock": ["VirtualClock", "fast_retries"],
    "fault_plan": ["Fail", "FaultPlan", "Fired", "Kill", "Stall"],
    "fault_site": ["InjectedFault"],
    "inline": ["InlineResult", "run_inline"],
}
"""Every public name, by the module that defines it. A test compares it with the imports for type checkers above."""

__all__ = sorted(name for names in _EXPORTS.values() for name in names)  # noqa: PLE0605 - a list, but no literal


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
