"""The example DAG files as Airflow loads them, and the year of flights, laid out once for all tests."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
from contextlib import closing
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import airflow_env

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).parents[2] / "dags_examples"
FILES = sorted(EXAMPLES.glob("[!_]*.py"))


def load_as_airflow_does(path: Path) -> Any:
    """Import a DAG file under a name that no other process can import, so its functions travel to workers by value."""
    name = f"unusual_prefix_tests_{path.stem}"
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def flights() -> Any:
    """The module of ``nyc_flights.py``."""
    return load_as_airflow_does(EXAMPLES / "nyc_flights.py")


@pytest.fixture(scope="session")
def source_code() -> Any:
    """The module of ``source_code_metrics.py``."""
    return load_as_airflow_does(EXAMPLES / "source_code_metrics.py")


@pytest.fixture(scope="session")
def flights_dir(flights: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the daily files and the lookup files, which the example also finds by itself."""
    folder = tmp_path_factory.mktemp("nyc_flights")
    flights.write_days(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NYC_FLIGHTS_DIR", str(folder))
        yield folder


@pytest.fixture(scope="session")
def days(flights_dir: Path) -> list[str]:
    """The daily files, oldest first."""
    return sorted(map(str, (flights_dir / "days").iterdir()))


@pytest.fixture(scope="module")
def bag(metadata_database: None) -> Iterator[Any]:
    """The examples, from the folder where Airflow looks for DAGs: ``dag.test()`` loads them from there once more."""
    from airflow.dag_processing.dagbag import DagBag

    folder = airflow_env.isolate() / "dags"
    copies = [shutil.copy(file, folder) for file in FILES]
    yield DagBag(dag_folder=folder, bundle_path=folder, bundle_name="dags-folder")
    for copy in copies:
        Path(copy).unlink()


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    """The database behind the connections of the examples."""
    file = tmp_path / "examples.db"
    for name in ("FLIGHTS_DB", "EXAMPLES_DB"):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps({"conn_type": "sqlite", "host": str(file)}))
    with closing(sqlite3.connect(file)) as connection:
        yield connection
