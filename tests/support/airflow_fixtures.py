"""A task's context, and a metadata database for the tests that need a real one."""

from __future__ import annotations

from datetime import datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import airflow_env
from tests.support.airflow_doubles import STARTED, FakeStateStore, FakeTaskInstance

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def context_of() -> Callable[..., dict[str, Any]]:
    """Makes a context as ``execute`` is given one: ``context_of(try_number=2)``."""

    def make(*, started: datetime | None = STARTED, store: FakeStateStore | None = None, **ti: Any) -> dict[str, Any]:
        context: dict[str, Any] = {"ti": FakeTaskInstance(**ti), "dag_run": SimpleNamespace(start_date=started)}
        if store is not None:
            context["task_state_store"] = store
        return context

    return make


@pytest.fixture(scope="session")
def metadata_database() -> None:
    """Airflow's own database, as ``dag.test()`` needs it."""
    airflow_env.migrate()
