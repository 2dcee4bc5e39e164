"""Errors of a database that the provider tells apart."""

from __future__ import annotations

from airflow_parallel_provider.errors import SinkError


class TransientSinkError(SinkError):
    """Another transaction, or the connection, was in the way: the same may succeed when it is tried again."""


class Unreachable(SinkError):
    """The database does not answer; it may later."""
