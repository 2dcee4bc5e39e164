# SPDX-License-Identifier: Apache-2.0
"""Errors of a database that have a class of their own."""

from __future__ import annotations

from airflow_parallel_provider.errors import SinkError


class TransientSinkError(SinkError):
    """Another transaction or the connection has caused it: the same may succeed on another try."""


class Unreachable(SinkError):
    """The database cannot be reached now; it may be later."""
