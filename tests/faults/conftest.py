"""The whole matrix takes several minutes: `make test` runs a part of it, `make test-slow` the rest."""

from __future__ import annotations

import pytest

IN_EVERY_RUN = (
    "test_control_groups.py",
    "test_default_timeout.py",
    "test_error_places.py",
    "test_forks_in_a_worker.py",
    "test_kinds.py",
    "test_limits.py",
    "test_own_code.py",
    "test_programs.py",
    "test_setup_teardown.py",
    "test_source_sink.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/faults/" not in item.path.as_posix() or item.path.name in IN_EVERY_RUN:
            continue
        if item.path.name == "test_process_matrix.py" and item.name.endswith("-alone]"):
            continue
        item.add_marker(pytest.mark.slow)
