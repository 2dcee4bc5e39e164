"""Sockets between processes block, whatever default timeout the program or a stage's module has set."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from airflow_parallel_provider.engine.ipc.sockets import adopt_socket, socket_pair


@pytest.fixture
def default_timeout() -> Iterator[None]:
    socket.setdefaulttimeout(0.001)
    yield
    socket.setdefaulttimeout(None)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["stream", "datagram"])
def test_both_ends_of_a_pair_block(kind: int, default_timeout: None) -> None:
    ours, theirs = socket_pair(kind)
    with ours, theirs:
        assert (ours.gettimeout(), theirs.gettimeout()) == (None, None)
        assert os.get_blocking(ours.fileno())
        assert os.get_blocking(theirs.fileno())


def test_end_for_the_child_blocks_where_no_socket_of_the_program_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """With gevent a socket's descriptor never blocks, and ``setblocking`` does not change that."""

    class Cooperative(socket.socket):
        def setblocking(self, flag: bool) -> None:
            super().setblocking(False)

    def pair(family: int, kind: int) -> tuple[socket.socket, socket.socket]:
        left, right = original(family, kind)
        return Cooperative(fileno=left.detach()), Cooperative(fileno=right.detach())

    original = socket.socketpair
    monkeypatch.setattr(socket, "socketpair", pair)

    ours, theirs = socket_pair()
    with ours, theirs:
        assert not os.get_blocking(ours.fileno())
        assert os.get_blocking(theirs.fileno())


def test_adopted_socket_blocks_and_is_not_inherited(default_timeout: None) -> None:
    """``SCM_RIGHTS`` gives a descriptor that programs inherit: one that a worker starts would hold its socket open."""
    left, right = socket.socketpair()
    with left:
        fd = right.detach()
        os.set_inheritable(fd, True)
        with adopt_socket(fd) as adopted:
            assert adopted.gettimeout() is None
            assert os.get_blocking(fd)
            assert not adopted.get_inheritable()
