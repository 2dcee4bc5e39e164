# SPDX-License-Identifier: Apache-2.0
"""Length-prefixed messages on a stream socket: eight bytes of length (little-endian), then the message.

``processes/boot.py`` has a copy of :func:`receive_message`: it runs before this package can be imported.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

_LENGTH: Final = struct.Struct("<Q")

_READ_SIZE: Final = 1 << 20


def send_message(sock: socket.socket, data: bytes) -> None:
    """Send one message, whole.

    :raises OSError: when the other side has closed the connection, or the socket's timeout passes.
    """
    sock.sendall(_LENGTH.pack(len(data)) + data)


def receive_message(sock: socket.socket) -> bytes:
    """Wait for one message.

    :raises OSError: when the other side closes the connection before the end, or the socket's timeout passes.
    """
    (size,) = _LENGTH.unpack(receive_exactly(sock, _LENGTH.size))
    return receive_exactly(sock, size)


def receive_exactly(sock: socket.socket, size: int) -> bytes:
    """Wait for ``size`` bytes.

    :raises OSError: when the other side closes the connection before the end, or the socket's timeout passes.
    """
    data = bytearray()
    while len(data) < size:
        more = sock.recv(min(_READ_SIZE, size - len(data)))
        if not more:
            raise ConnectionResetError("the other side closed the connection")
        data += more
    return bytes(data)
