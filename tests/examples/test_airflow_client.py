"""The demo's and the system tests' client of Airflow, against an API server that is in trouble."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from dev import airflow_client
from dev.airflow_client import AirflowClient


@contextmanager
def answering(*answers: tuple[int, str]) -> Iterator[tuple[AirflowClient, list[str]]]:
    """A client of a server that gives these answers, one after the other, and what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, text = answers[len(asked)]
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with closing(AirflowClient(f"http://127.0.0.1:{server.server_port}")) as client:
                yield client, asked
        finally:
            server.shutdown()
            thread.join()


BUSY = (500, json.dumps({"detail": {"reason": "Database error"}}))


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(airflow_client, "_PAUSES", (0.0, 0.0))


def test_request_is_made_again_while_the_database_is_busy() -> None:
    with answering(BUSY, BUSY, (200, '{"dag_run_id": "r"}')) as (client, asked):
        assert client.request("POST", "/x") == {"dag_run_id": "r"}

    assert asked == ["/api/v2/x"] * 3


@pytest.mark.parametrize("answers", [[BUSY] * 3, [(500, "boom")], [(409, "Database error")]])
def test_other_errors_and_a_database_that_stays_busy_are_raised(answers: list[tuple[int, str]]) -> None:
    with answering(*answers) as (client, asked), pytest.raises(httpx.HTTPStatusError, match=answers[-1][1][:5]):
        client.request("POST", "/x")

    assert len(asked) == len(answers)
