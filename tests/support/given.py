"""How properties are tested: the same few examples in every `make test`, many random ones in `make test-slow`."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

LONG = os.environ.get("PARALLEL_TESTS_PROPERTIES") == "long"
"""Set by `make test-slow`."""


def examples(count: int, *, long: int | None = None, **more: Any) -> settings:
    """Settings of a property, to be put above ``@given``. No deadline: the machine may have other things to do.

    :param count: examples in `make test`.
    :param long: examples in `make test-slow`; ten times as many if it is not given.
    """
    return settings(
        max_examples=(long or 10 * count) if LONG else count,
        deadline=None,
        derandomize=not LONG,
        database=None,
        suppress_health_check=list(HealthCheck),
        **more,
    )


quick = examples(60)

if not LONG:
    # Hypothesis also tries the constants that it finds in the loaded modules of this repository. Which are loaded
    # depends on the tests that ran before, so the examples of a test were not the same in each run.
    providers._get_local_constants = lambda: providers._local_constants
