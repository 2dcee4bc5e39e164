"""An Airflow over two hosts for each executor that reaches other hosts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.system.hosts.hosts_airflow import HostsSite, celery, edge

if TYPE_CHECKING:
    from collections.abc import Iterator

DAGS = Path(__file__).parent / "dags"


@pytest.fixture(scope="module")
def celery_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostsSite]:
    with celery(tmp_path_factory.mktemp("celery"), DAGS) as site:
        yield site


@pytest.fixture(scope="module")
def edge_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostsSite]:
    pytest.importorskip("airflow.providers.edge3", reason="needs the Edge executor: make test-edge")
    with edge(tmp_path_factory.mktemp("edge"), DAGS) as site:
        yield site
