# SPDX-License-Identifier: Apache-2.0
"""Starts the process of a fork server, which can begin its own imports before anyone knows its functions.

An interpreter takes longer to start than anything else before the first result of a process stage. So a run starts the
process first, and imports the rest of the engine, prepares its source and opens its sink meanwhile (issue 15). This
module therefore imports little.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

from airflow_parallel_provider.engine.ipc.framing import send_message
from airflow_parallel_provider.engine.ipc.sockets import socket_pair
from airflow_parallel_provider.engine.processes import protocol
from airflow_parallel_provider.engine.processes.green_threads import check_patches
from airflow_parallel_provider.engine.processes.system import END_SECONDS, end_marked
from airflow_parallel_provider.errors import PlanError

_CLOSE_SECONDS = 0.5
"""How long the fork server may take to end everything by itself."""


class LaunchedServer:
    """The process of a fork server. It waits for its functions.

    Create it on a thread that outlives the run: the kernel's parent-death signal follows the creating *thread*.

    :raises PlanError: inside a fork server, where every fork server would start another one without end; where eventlet
        has patched the program.
    :raises OSError: when the process cannot be started.
    """

    def __init__(self) -> None:
        check_patches()
        if protocol.importing_stage is not None:
            cure = "its module runs a pipeline when it is imported: put that under `if __name__ == '__main__':`"
            raise PlanError("Stage.function", protocol.importing_stage, cure)
        self.taken = False
        """A :class:`.client.ForkServerClient` uses it, and ends it."""
        self._marker = uuid.uuid4().hex
        """Inherited by every program below the fork server."""
        self._ended = False
        self.control, theirs = socket_pair()
        boot = Path(__file__).with_name("boot.py")
        environment = {
            **os.environ,
            "PYTHON_OPERATORS_VIRTUAL_ENV_MODE": "1",  # lets a worker `import airflow`
            "AIRFLOW_PARALLEL_FORK_SERVER": self._marker,
        }
        # Without standard streams a new socket may get descriptor 0, 1 or 2, which are the child's own streams.
        control = fcntl.fcntl(theirs.fileno(), fcntl.F_DUPFD_CLOEXEC, 3)
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", str(boot), str(control), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(control,),
                env=environment,
            )
        except BaseException:
            self.control.close()
            raise
        finally:
            os.close(control)
            theirs.close()
        with contextlib.suppress(OSError):  # it has died already: the client notices when it sends the functions
            send_message(self.control, json.dumps({"path": _search_path(), "argv": sys.argv}).encode())

    def close(self) -> None:
        """End the fork server, every worker process and what those have started. Takes milliseconds and never raises.

        A fork server that is busy (with an import) is ended by its guardian. A second call does nothing.
        """
        if self._ended:
            return
        # Without the client's lock: a thread that waits for a response holds it, and this wakes that thread.
        with contextlib.suppress(OSError):
            self.control.shutdown(socket.SHUT_RDWR)
        _wait_or_end(self.process)
        if self.process.returncode:  # killed, perhaps together with the fork server (`pkill`)
            end_marked(self._marker)
        self._ended = True
        self.control.close()
        if not self.taken and self.process.stdout is not None:
            self.process.stdout.close()


@contextlib.contextmanager
def launched_ahead(*, needed: bool) -> Iterator[LaunchedServer | None]:
    """Start the process of a fork server, if one is needed, for a run that begins inside.

    What prevents it is not reported here: the run tries again where it can say what is wrong. The process ends at the
    end of the block if the run has not taken it.
    """
    server = None
    if needed:
        with contextlib.suppress(PlanError, OSError, MemoryError):
            server = LaunchedServer()
    try:
        yield server
    finally:
        if server is not None and not server.taken:
            server.close()


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """No garbage collection inside: for imports, which create many objects and little garbage.

    In a task a collection of all generations visits everything that Airflow has loaded. It takes longer (0.15 to 0.2 s)
    than the imports that trigger it.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _wait_or_end(process: subprocess.Popen[bytes]) -> None:
    """Wait for the guardian, which ends when the fork server has; have it end the fork server when that takes long."""

    def terminate() -> None:
        process.terminate()
        process.send_signal(signal.SIGCONT)  # it may have been stopped

    for seconds, end in ((_CLOSE_SECONDS, terminate), (END_SECONDS, process.kill), (1.0, process.kill)):
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            end()
        else:
            return


def _search_path() -> list[str]:
    """``sys.path``, made absolute, with the folder of this package on it however the package was imported."""
    here = str(Path(__file__).parents[3])
    paths = [str(Path(entry or ".").absolute()) for entry in sys.path]
    return paths if here in paths else [*paths, here]
