"""A real HTTP server that gives numbers page by page and fails on request."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Answer = tuple[int, dict[str, str], Any]
"""Status, headers, and the body: JSON, or bytes as they are."""


_FRAMING = {"Content-Length", "Transfer-Encoding", "Connection"}


class Pages:
    """What the server answers, and what it was asked.

    :param answer: called for each request with its path and query; None: the server hangs up without an answer.
    """

    def __init__(self, answer: Callable[[str, dict[str, str]], Answer | None]) -> None:
        self.answer = answer
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[Any] = []
        """JSON of requests that are a POST."""
        self.clients: set[Any] = set()
        self.at_once = 0
        self.most_at_once = 0
        self.lock = threading.Lock()
        self.port = 0

    @property
    def connection(self) -> str:
        """The Airflow connection of the server."""
        return json.dumps({"conn_type": "http", "host": "127.0.0.1", "port": self.port})


@contextmanager
def serving(answer: Callable[[str, dict[str, str]], Answer | None], host: str = "127.0.0.1") -> Iterator[Pages]:
    """A server on a free port of this machine, as long as the context lasts.

    It hangs up after an answer whose headers say where its body ends.
    """
    pages = Pages(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with pages.lock:
                pages.bodies.append(json.loads(body) if body.startswith(b"{") else dict(parse_qsl(body.decode())))
            self.do_GET()

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = dict(parse_qsl(parts.query))
            with pages.lock:
                pages.asked.append((parts.path, query))
                pages.headers.append(dict(self.headers))
                pages.clients.add(self.client_address)
                pages.at_once += 1
                pages.most_at_once = max(pages.most_at_once, pages.at_once)
            try:
                answer = pages.answer(parts.path, query)
            finally:
                with pages.lock:
                    pages.at_once -= 1
            if answer is None:
                self.close_connection = True
                return
            status, headers, body = answer
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if _FRAMING.isdisjoint(headers):
                self.send_header("Content-Length", str(len(content)))
            else:
                self.close_connection = True
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    server = Server((host, 0), Handler)
    server.daemon_threads = True
    pages.port = server.server_address[1]
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.05), daemon=True)
    thread.start()
    try:
        yield pages
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
