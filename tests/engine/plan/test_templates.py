"""Texts that stand for a number: which ones, and what becomes of what they render to."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_parallel_provider.engine.plan.templates import (
    holds_template,
    is_template,
    rendered_number,
    rendered_workers,
)
from airflow_parallel_provider.errors import PlanError


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("{{ params.most }}", True),
        ("{% if params.fast %}8{% endif %}", True),
        ("8", False),
        ("{most}", False),
        (8, False),
    ],
)
def test_template_is_what_jinja_changes(value: Any, expected: bool) -> None:
    assert is_template(value) is expected
    assert holds_template((1, value)) is expected


@pytest.mark.parametrize("nothing", ["", " ", "None", "null", " None\n"])
def test_nothing_is_none_where_the_field_may_be_left_out(nothing: str) -> None:
    assert rendered_number("timeout", nothing, optional=True) is None
    with pytest.raises(PlanError, match="the template must render to a number"):
        rendered_number("chunk_size", nothing)


def test_workers_nested_too_deep_to_be_read_are_refused_like_any_other_nonsense() -> None:
    with pytest.raises(PlanError, match="the template must render to a number, to "):
        rendered_workers("workers", "-" * 100_000 + "1")
