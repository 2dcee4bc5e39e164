"""First lines of the fork server: run by path with ``python -P``, before any path but the interpreter's own is known.

It takes over ``sys.path`` and ``sys.argv`` of the task process, so that functions can be imported by reference, and
hands over to :mod:`.parent`. ``__main__`` of the task process is never imported here: under Airflow it is the
``airflow`` command, whose import fails in a child.
"""

import json
import socket
import struct
import sys


def receive(control: socket.socket) -> bytes:
    """One length-prefixed message."""
    header = b""
    while len(header) < 8:
        more = control.recv(8 - len(header))
        if not more:
            raise SystemExit(0)
        header += more
    (size,) = struct.unpack("<Q", header)
    data = bytearray()
    while len(data) < size:
        more = control.recv(min(1 << 20, size - len(data)))
        if not more:
            raise SystemExit(0)
        data += more
    return bytes(data)


def main() -> None:
    """Read the search path, then serve."""
    control = socket.socket(fileno=int(sys.argv[1]))
    told = json.loads(receive(control))
    sys.path[:] = told["path"]
    sys.argv[:] = told["argv"]  # a function of a script may look at them
    from airflow_parallel_provider.engine.processes.fork_server import serve

    serve(control, receive(control))


if __name__ == "__main__":
    main()
