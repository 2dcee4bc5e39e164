"""The libraries' threads and descriptors are made once in a process; not in a test, whose guard would see them."""

from __future__ import annotations

import importlib.util

import pytest

from tests.support.lakes import KINDS, Lake


@pytest.fixture(scope="session", autouse=True)
def _runtimes(tmp_path_factory: pytest.TempPathFactory) -> None:
    for kind in KINDS:
        if importlib.util.find_spec({"delta": "deltalake", "iceberg": "pyiceberg"}[kind]) is not None:
            lake = Lake(kind, tmp_path_factory.mktemp(kind) / "table")
            lake.load(None, [{"id": 1}])
            assert len(lake.rows()) == 1
