# SPDX-License-Identifier: Apache-2.0
"""First lines of the fork server. Run by path with ``python -P``, when only the interpreter's own paths are known.

It takes ``sys.path`` and ``sys.argv`` from the task process, so that functions can be imported by reference, and
continues in :mod:`.fork_server`. ``__main__`` of the task process is never imported here: under Airflow it is the
``airflow`` command, whose import fails in a child process.
"""

import json
import socket
import struct
import sys


def receive(control: socket.socket) -> bytes:
    """Wait for one length-prefixed message.

    A copy of :func:`.ipc.framing.receive_message`: this package cannot be imported before ``sys.path`` is set.
    """
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
    """Set the search path, leave a guardian behind, then serve."""
    control, task = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    control.setblocking(True)  # `sitecustomize` may have set a default timeout
    settings = json.loads(receive(control))
    sys.path[:] = settings["path"]
    sys.argv[:] = settings["argv"]  # a function of a script may read them
    from airflow_parallel_provider.engine.processes.guardian import guard

    guard(task)
    from airflow_parallel_provider.engine.processes.fork_server import serve

    serve(control, receive(control))


if __name__ == "__main__":
    main()
