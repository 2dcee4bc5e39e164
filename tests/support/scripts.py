"""Running a pipeline in an interpreter of its own: for what cannot be done to the test process itself."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def write_script(folder: Path, text: str, name: str = "script.py") -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return path


def start(path: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start a script in a process group of its own, as a task is."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    settings: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    command = [sys.executable, str(path), *arguments]
    return subprocess.Popen(command, env=environment, start_new_session=True, **settings)


def run(path: Path, *arguments: str, **options: Any) -> str:
    """Run a script to its end; return what it printed."""
    with start(path, *arguments, **options) as process:
        try:
            output, errors = process.communicate(timeout=170)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == 0, f"exit code {process.returncode}\n{output}\n{errors}"
    return output or ""
