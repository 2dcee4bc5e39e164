"""A TCP proxy in front of a database that cuts a connection at a COMMIT: before it, after it, or in the middle.

The proxy reads the client's side of the protocol message by message, so it knows a COMMIT from a row that holds the
text. The connection must not be encrypted. It runs on a thread of its own.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable
from typing import Any, Self

BEFORE, DURING, AFTER = "before", "during", "after"
CUTS = (BEFORE, DURING, AFTER)
"""Before: the server never gets the COMMIT. After: it has committed, and the client never gets the answer. During: the
server gets it, and the client hears nothing and does not wait."""
_LISTEN = "listen"
_SSL_REQUESTS = (80877103, 80877104)


class PostgresMessages:
    """Finds the end of the first COMMIT in what a PostgreSQL client sends."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._begun = False

    def commit_in(self, data: bytes) -> bool:
        """Whether a message that these bytes complete is a COMMIT."""
        self._data += data
        found = False
        while (message := self._next()) is not None:
            found = found or message.rstrip(b"\0").upper() == b"QCOMMIT"
        return found

    def _next(self) -> bytes | None:
        """Type and body of the next whole message; empty for the messages at the start, which have no type."""
        start = 1 if self._begun else 0
        if len(self._data) < start + 4:
            return None
        length = int.from_bytes(self._data[start : start + 4])
        if len(self._data) < start + length:
            return None
        message = bytes(self._data[:start] + self._data[start + 4 : start + length])
        del self._data[: start + length]
        if self._begun:
            return message
        self._begun = int.from_bytes(message[:4]) not in _SSL_REQUESTS
        return b""


class MysqlMessages:
    """Finds the first COMMIT in what a MySQL client sends."""

    def __init__(self) -> None:
        self._data = bytearray()

    def commit_in(self, data: bytes) -> bool:
        """Whether a packet that these bytes complete is a COMMIT."""
        self._data += data
        found = False
        while len(self._data) >= 4:
            length = int.from_bytes(self._data[:3], "little")
            if len(self._data) < 4 + length:
                break
            found = found or bytes(self._data[4 : 4 + length]).upper() == b"\x03COMMIT"
            del self._data[: 4 + length]
        return found


class Link:
    """One client and its connection to the server."""

    def __init__(self, client: socket.socket, server: socket.socket, messages: Any) -> None:
        self.client, self.server, self.messages = client, server, messages
        self.dying = False
        """The server has the last COMMIT; when it has answered, all is over."""

    def close(self) -> None:
        for end in (self.client, self.server):
            end.close()


class CuttingProxy:
    """Listens on a free port of this machine until closed.

    :param upstream: host and port of the database.
    :param messages: how the client's messages are read.
    """

    def __init__(self, upstream: tuple[str, int], messages: Callable[[], Any]) -> None:
        self._upstream, self._messages = upstream, messages
        self._cut: str | None = None
        self._left = 0
        self._links: list[Link] = []
        self.cuts = 0
        """Connections cut so far."""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._end, self._ended = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listening, selectors.EVENT_READ, _LISTEN)
        self._selector.register(self._ended, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._serve, name="parallel-test-proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.close()
        self._thread.join(10)
        for link in self._links:
            link.close()
        self._ended.close()
        self._listening.close()
        self._selector.close()

    def cut_at(self, commit: int, how: str) -> None:
        """Cut once, at the nth COMMIT from now."""
        self._cut, self._left = how, commit

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    return
                if key.data == _LISTEN:
                    self._accept()
                elif key.data in self._links:
                    self._pass_on(key.data, from_client=key.fileobj is key.data.client)

    def _accept(self) -> None:
        client, _ = self._listening.accept()
        try:
            server = socket.create_connection(self._upstream, timeout=10)
        except OSError:
            client.close()
            return
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server.settimeout(None)
        link = Link(client, server, self._messages())
        self._links.append(link)
        self._selector.register(client, selectors.EVENT_READ, link)
        self._selector.register(server, selectors.EVENT_READ, link)

    def _pass_on(self, link: Link, *, from_client: bool) -> None:
        source, target = (link.client, link.server) if from_client else (link.server, link.client)
        try:
            data = source.recv(65_536)
        except OSError:
            data = b""
        if not data or link.dying:
            self._drop(link)
            return
        cut = self._cut_now(link, data) if from_client else None
        if cut == BEFORE:
            self._drop(link)
            return
        try:
            target.sendall(data)
        except OSError:
            self._drop(link)
            return
        if cut is not None:
            link.dying = True
            self._selector.unregister(link.client)
            if cut == DURING:
                link.client.close()

    def _cut_now(self, link: Link, data: bytes) -> str | None:
        if not link.messages.commit_in(data) or self._cut is None:  # in this order: it must see every message
            return None
        self._left -= 1
        if self._left > 0:
            return None
        how, self._cut = self._cut, None
        self.cuts += 1
        return how

    def _drop(self, link: Link) -> None:
        self._links.remove(link)
        for end in (link.client, link.server):
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(end)
        link.close()
