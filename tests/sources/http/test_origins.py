"""What belongs to one origin."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_parallel_provider import HttpPagesSource, PlanError
from airflow_parallel_provider.sources.http.origins import origin_of


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("http://example.com", "http://EXAMPLE.com:80/path?query"),
        ("https://example.com:443", "HTTPS://user:word@example.com/"),
        ("http://[::1]:8080", "http://[0:0:0:0:0:0:0:1]:8080/x"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
    ],
)
def test_same_origin(first: str, second: str) -> None:
    assert origin_of(first) == origin_of(second)
    assert origin_of(str(origin_of(first))) == origin_of(first)


@pytest.mark.parametrize(
    "other",
    [
        "http://example.com",
        "https://example.com:8443",
        "https://www.example.com",
        "https://example.com.evil.example",
        "https://example.com@evil.example",
        "https://example.com:word@evil.example",
        "https://example.com.",
    ],
)
def test_other_origin(other: str) -> None:
    assert origin_of(other) != origin_of("https://example.com")


@pytest.mark.parametrize(
    "address", ["", "/v1", "ftp://example.com", "https://", "https://a:port", r"http://evil.example\@example.com"]
)
def test_no_origin(address: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        origin_of(address)


@pytest.mark.parametrize(
    "given",
    [
        "https://example.com",
        {"https://example.com": True},
        7,
        ["example.com"],
        ["https://example.com/v1"],
        ["https://example.com?x=1"],
        ["https://me@example.com"],
        ["https://example.com:port"],
        ["ftp://example.com"],
        [None],
    ],
)
def test_trusted_origins_are_checked(given: Any) -> None:
    with pytest.raises(PlanError, match=r"HttpPagesSource\.trusted_origins"):
        HttpPagesSource("/v1", conn_id="api", trusted_origins=given)
