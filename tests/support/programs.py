"""A program of ``dev/`` as a child process: its output read up to a text, and what it left."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import psutil

REPOSITORY = Path(__file__).parents[2]


class Program:
    """``python -m MODULE --home HOME ...``, ended with the context at the latest.

    :param env: more environment variables.
    """

    def __init__(self, module: str, home: Path, *options: str, env: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, "--home", str(home), *options],
            cwd=REPOSITORY,
            env={**os.environ, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.output = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self.process:
            if self.process.poll() is None:
                self.process.terminate()
                self.process.wait(30)

    def read_until(self, text: str | None, seconds: float) -> str:
        """Read until ``text`` appears (None: until the end); return all output."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + seconds
        while text is None or text not in self.output:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"not within {seconds:g} s: {text!r} in\n{self.output}"
            more = os.read(self.process.stdout.fileno(), 65536)
            if not more:
                assert text is None, f"ended before {text!r}:\n{self.output}"
                break
            self.output += more.decode()
        return self.output

    def still_there(self) -> list[str]:
        """Command lines of processes that have to do with this program's folder."""
        found = []
        for process in psutil.process_iter():
            try:
                mine = str(self.home) in process.environ().get("AIRFLOW_HOME", "")
                if mine and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(" ".join(process.cmdline()))
            except psutil.Error:
                continue
        return found
