"""How properties are tested here: the same few examples each time, no deadline (the machine may be loaded)."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

quick = settings(
    deadline=None,
    max_examples=60,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
"""Put it above ``@given``."""
