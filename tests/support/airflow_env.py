"""An Airflow of their own for tests that import it: never the user's settings, never the user's database."""

from __future__ import annotations

import atexit
import fcntl
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any


def isolate() -> Path:
    """Point this process to a new, empty AIRFLOW_HOME, removed at exit; return it.

    Must be called before the first ``import airflow``: Airflow reads its settings there and then. A second call returns
    the same folder.
    """
    # Each worker of pytest-xdist has one of its own; all processes that a worker starts have that of the worker.
    own = f"PARALLEL_TESTS_AIRFLOW_HOME_{os.environ.get('PYTEST_XDIST_WORKER', '')}"
    if (home := os.environ.get(own)) and Path(home).is_dir():
        return Path(home)
    if "airflow.settings" in sys.modules:
        raise RuntimeError("isolate() comes too late: Airflow has been imported already")
    for name in [each for each in os.environ if each.startswith(("AIRFLOW", "_AIRFLOW"))]:
        del os.environ[name]
    made = Path(tempfile.mkdtemp(prefix="airflow-home-"))
    atexit.register(_remove, made, os.getpid())
    os.environ.update(
        {
            own: str(made),
            "AIRFLOW_HOME": str(made),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(made / "dags"),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{made / 'airflow.db'}",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        }
    )
    (made / "dags").mkdir()
    return made


def migrate() -> None:
    """Make the metadata database of this process's Airflow; the first time only."""
    file = isolate() / "airflow.db"
    if not file.exists():
        shutil.copyfile(migrated_database(), file)


def migrated_database() -> Path:
    """A metadata database without rows, to be copied.

    ``airflow db migrate`` takes ten seconds, and many tests need a database of their own. So it is made once for each
    installed Airflow and kept in its environment.
    """
    kept = Path(sys.prefix, f"airflow-{version('apache-airflow')}.db")
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another lane may be at it
        if not kept.exists():
            made = kept.with_suffix(".new")
            made.unlink(missing_ok=True)
            _migrate(made)
            made.rename(kept)
    return kept


def _migrate(database: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"],
        env={**os.environ, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{database}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=180,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"airflow db migrate failed:\n{done.stdout[-3000:]}")


def load_dags(folder: Path) -> dict[str, Any]:
    """Parse the DAG files of a folder as Airflow does: under module names that no other process can import."""
    bag = _first_of("airflow.dag_processing.dagbag:DagBag", "airflow.models.dagbag:DagBag")(folder, bundle_path=folder)
    if bag.import_errors:
        raise RuntimeError(f"DAG files with errors: {bag.import_errors}")
    return dict(bag.dags)


def dag_serializer() -> Any:
    """The class whose ``to_dict`` and ``from_dict`` take a DAG to Airflow's database and back."""
    module = "airflow.serialization.serialized_objects"
    return _first_of(f"{module}:DagSerialization", f"{module}:SerializedDAG")


def _first_of(*places: str) -> Any:
    """What is found at the first of these places; Airflow moves things between versions."""
    for place in places:
        module, _, name = place.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue
    raise ImportError(f"none of {places} is in this Airflow")


def _remove(home: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in a forked child that runs our exit handlers
        shutil.rmtree(home, ignore_errors=True)
