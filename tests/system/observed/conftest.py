"""An Airflow with more around it: PostgreSQL as its database, Celery, OpenTelemetry, OpenLineage, a slow line.

In a folder of its own, so that it ends before the other Airflow starts: an idle scheduler and server take a fifth of a
processor from other tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.system.observed.observed_airflow import Observed, observed_airflow

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="package")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    with observed_airflow(tmp_path_factory.mktemp("observed")) as site:
        yield site
