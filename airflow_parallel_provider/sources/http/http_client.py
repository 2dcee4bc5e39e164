# SPDX-License-Identifier: Apache-2.0
"""The HTTP client of ``HttpPagesSource``: the connection, and a reader of pages for each thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.connections import get_connection, resolved_copy
from airflow_parallel_provider.errors import PlanError, SourceError
from airflow_parallel_provider.sources.http.auth import OAuthClientCredentials, credentials_of
from airflow_parallel_provider.sources.http.page_reader import PageReader
from airflow_parallel_provider.sources.http.sessions import Sessions
from airflow_parallel_provider.sources.http.throttle import Throttle
from airflow_parallel_provider.sources.read_ahead import ReadingStopped, StopReading

if TYPE_CHECKING:
    from airflow_parallel_provider.sources.http.request_counts import RequestCounts
    from airflow_parallel_provider.sources.http.request_policy import RequestPolicy


class HttpClient:
    """Requests pages. Only the constructor talks to Airflow."""

    def __init__(self, policy: RequestPolicy, halt: StopReading, auth: Any, counts: RequestCounts) -> None:
        try:
            from airflow.providers.http.hooks.http import HttpHook
        except ImportError:
            cure = "the HTTP provider is not installed: pip install 'airflow-parallel-provider[http]'"
            raise PlanError("HttpPagesSource.conn_id", policy.conn_id, cure) from None
        connection = resolved_copy(get_connection(policy.conn_id, "HttpPagesSource.conn_id"))
        self._hook: Any = HttpHook(method="GET", http_conn_id=policy.conn_id)
        self._hook.get_connection = lambda _conn_id=None: connection
        self._credentials = credentials_of(auth, connection.login, connection.password)
        self._by_oauth = isinstance(auth, OAuthClientCredentials)
        self._policy = policy
        self._halt = halt
        self._throttle = Throttle(policy.rate_limit, halt, counts)
        self._counts = counts

    def add(self, values: dict[str, Any]) -> None:
        """Send more parameters with every request. Before pages are read."""
        self._policy = self._policy.with_values(values)

    @contextmanager
    def reader(self, *, optional_behind: int | None, ended: threading.Event | None = None) -> Iterator[PageReader]:
        """What reads pages, with its own sessions.

        :param optional_behind: pages with a higher number need not exist; None: all must exist.
        :param ended: set when no further page is needed: then none is requested.
        """
        policy = self._policy

        def enter() -> None:
            self._throttle.enter()
            if ended is not None and ended.is_set():
                raise ReadingStopped("the last page has been read")

        session = self._hook.get_conn(dict(policy.headers))
        if self._by_oauth:  # login and password are those of the client, and go to the server of tokens only
            session.auth = None
        url = self._hook.url_from_endpoint(policy.endpoint)
        try:
            sessions = Sessions(session, url, policy.trusted_origins, policy.timeout, enter)
        except ValueError as error:  # of the connection
            session.close()
            if isinstance(error, PlanError):
                raise
            raise SourceError(f"{policy.source}: the connection has no address that can be requested") from None
        try:
            yield PageReader(
                policy,
                sessions,
                self._halt,
                self._throttle,
                optional_behind,
                counts=self._counts,
                credentials=self._credentials,
            )
        finally:
            sessions.close()
