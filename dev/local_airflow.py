"""A complete Airflow on this machine, for the demo, for ``make ui`` and for the system tests.

::

    with LocalAirflow(home=Path(".airflow"), dags=Path("dags_examples")) as airflow:
        run_id = airflow.client.trigger("nyc_flights")
        state = airflow.client.wait_for_run("nyc_flights", run_id)

It runs scheduler (LocalExecutor), API server and DAG processor on SQLite, or with a Celery worker and another database.
It listens only on 127.0.0.1, without log-in: every user who can reach the port is admin. Environment variables
configure it, so an ``airflow.cfg`` of the user has no effect. ``airflow standalone`` is not used: stopped with one
signal it leaves its children running.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import httpx

from dev import keeper
from dev.airflow_client import AirflowClient
from dev.airflow_settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

PROGRAMS = ("scheduler", "api-server", "dag-processor")
START_TIMEOUT = 240.0
"""Seconds until all programs must be ready; 15 to 25 on two idle cores."""
TELL_EVERY = 5.0
"""Seconds between two texts about what the start waits for."""
GRACE = 8.0
"""Seconds between SIGTERM and SIGKILL at the end."""


class AirflowStartError(RuntimeError):
    """Airflow did not start, or ended by itself; the text contains the end of its logs."""


class LocalAirflow:
    """Starts Airflow on entry, ends all its processes on exit.

    :param home: AIRFLOW_HOME; created if it does not exist. It contains database, logs and generated secrets, which are
        used again the next time.
    :param dags: folder with the DAG files.
    :param port: port of the API server; None: a free one.
    :param connections: connections by id, as URI or JSON text; set in the environment of Airflow (and so of tasks).
    :param env: more variables for Airflow, e.g. ``{"AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1"}``.
    :param parallelism: most tasks at a time.
    :param celery_worker: also start a Celery worker; ``env`` sets the executor and the broker.
    :param api_workers: processes of the API server.
    :param tell: is called with what the start waits for, when that changes and every five seconds.
    :param database: a migrated SQLite file, of which a new home gets a copy; None: the home's own is migrated.
    :raises AirflowStartError: when Airflow does not start, or another one already uses ``home``.
    """

    def __init__(
        self,
        home: Path,
        dags: Path,
        *,
        port: int | None = None,
        connections: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        parallelism: int = 4,
        celery_worker: bool = False,
        api_workers: int = 1,
        database: Path | None = None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.programs = (*PROGRAMS, "celery-worker") if celery_worker else PROGRAMS
        self.home = home.resolve()
        self.dags = dags.resolve()
        self.port = port or _free_port()
        self.parallelism = parallelism
        self.api_workers = api_workers
        self.connections = dict(connections or {})
        self.extra_env = dict(env or {})
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = AirflowClient(self.url)
        self._database = database
        self._tell = tell
        self._keeper: subprocess.Popen[bytes] | None = None

    @property
    def logs(self) -> Path:
        """Folder with the logs of Airflow itself and, below ``tasks``, those of the tasks."""
        return self.home / "logs"

    @property
    def session(self) -> int:
        """Session id that all processes of this Airflow share, tasks included."""
        assert self._keeper is not None
        return self._keeper.pid

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Create the database, start the programs and wait until all are healthy."""
        (self.logs / "tasks").mkdir(parents=True, exist_ok=True)
        self.make_database()
        spec = {
            "programs": {name: self._argv(name) for name in self.programs},
            "logs": str(self.logs),
            "lock": str(self.home / "keeper.lock"),
            "grace": GRACE,
        }
        spec_file = self.home / "keeper.json"
        spec_file.write_text(json.dumps(spec), encoding="utf-8")
        self._keeper = subprocess.Popen(
            [sys.executable, str(Path(keeper.__file__)), str(spec_file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self.environment(),
            start_new_session=True,
        )
        self._wait_until_ready(time.monotonic() + START_TIMEOUT)
        self.client.log_in()

    def make_database(self) -> None:
        """Create Airflow's database, or bring the one that is there up to date."""
        file = self.home / "airflow.db"
        if self._database is not None and not file.exists():
            shutil.copyfile(self._database, file)
        else:
            self._tell("creating Airflow's database, or bringing it up to date")
            self.command("db", "migrate")

    def stop(self) -> None:
        """End every process that was started, and wait until all have ended."""
        self.client.close()
        process, self._keeper = self._keeper, None
        if process is None:
            return
        try:
            with contextlib.suppress(BrokenPipeError):
                process.communicate(timeout=GRACE + 10)  # closes its stdin, which ends the keeper
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        finally:
            keeper.end_session(process.pid, grace=0.0)

    def wait(self) -> None:
        """Block as long as Airflow runs.

        :raises AirflowStartError: when one of its programs has ended by itself.
        """
        assert self._keeper is not None
        self._keeper.wait()
        raise AirflowStartError(self._why_keeper_ended())

    def command(self, *arguments: str, timeout: float = 180.0) -> str:
        """Run ``airflow ARGUMENTS`` in this Airflow and return its output.

        :raises AirflowStartError: when it fails; the text contains its output.
        """
        finished = subprocess.run(
            [*_airflow(), *arguments],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        if finished.returncode != 0:
            raise AirflowStartError(f"airflow {' '.join(arguments)} failed:\n{finished.stdout[-4000:]}")
        return finished.stdout

    def environment(self) -> dict[str, str]:
        """Environment of every Airflow process: the present one without settings of another Airflow, and ours."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "_AIRFLOW"))}
        connections = {f"AIRFLOW_CONN_{name.upper()}": value for name, value in self.connections.items()}
        configured = settings(self.home, self.dags, self.url, self.parallelism)
        return inherited | configured | connections | self.extra_env

    def _argv(self, program: str) -> list[str]:
        options = {
            # The log server would need a second free port; the API server reads the log files of this machine itself.
            "scheduler": ["--skip-serve-logs"],
            "api-server": ["--host", "127.0.0.1", "--port", str(self.port), "--workers", str(self.api_workers)],
            "celery-worker": ["--concurrency", str(self.parallelism), "--skip-serve-logs", "--without-mingle"],
        }
        command = ["celery", "worker"] if program == "celery-worker" else [program]
        return [*_airflow(), *command, *options.get(program, [])]

    def _wait_until_ready(self, deadline: float) -> None:
        assert self._keeper is not None
        missing = "no response yet"
        self._tell(f"starting {', '.join(self.programs)}")
        told, began = time.monotonic(), time.monotonic()
        while time.monotonic() < deadline:
            if self._keeper.poll() is not None:
                raise AirflowStartError(self._why_keeper_ended())
            missing = self._missing()
            if not missing:
                return
            if time.monotonic() - told > TELL_EVERY:
                told = time.monotonic()
                self._tell(f"waiting for {missing}, {told - began:.0f} s so far")
            time.sleep(0.1)
        raise AirflowStartError(f"not ready within {START_TIMEOUT:g} s: {missing}\n{self._log_ends()}")

    def _missing(self) -> str:
        """The parts that are not healthy yet; empty when all are."""
        try:
            health = self.client.health()
        except (httpx.HTTPError, ValueError) as error:
            return f"an answer of the API server ({type(error).__name__})"
        parts = ("metadatabase", "scheduler", "dag_processor")
        return ", ".join(part for part in parts if (health.get(part) or {}).get("status") != "healthy")

    def _why_keeper_ended(self) -> str:
        assert self._keeper is not None
        output = self._keeper.communicate()[0].decode(errors="replace")
        if self._keeper.returncode == keeper.LOCKED:
            return f"another Airflow is already running in {self.home}; end it first or choose another folder"
        return f"{output.strip()}\n{self._log_ends()}"

    def _log_ends(self, characters: int = 2000) -> str:
        ends = []
        for name in self.programs:
            file = self.logs / f"{name}.log"
            text = file.read_text(encoding="utf-8", errors="replace")[-characters:] if file.exists() else "(no log)"
            ends.append(f"--- {file.name}\n{text}")
        return "\n".join(ends)


def _airflow() -> list[str]:
    """The Airflow of this interpreter, independent of PATH."""
    return [sys.executable, "-m", "airflow"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
