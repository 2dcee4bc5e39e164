"""``make ui``: Airflow with the example DAGs and the external services that they need, until Ctrl-C."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dev import shop
from dev.local_airflow import AirflowStartError, LocalAirflow

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).resolve().parent.parent


@contextmanager
def external_services(home: Path) -> Iterator[dict[str, str]]:
    """Start the external services of the examples; yields their Airflow connections by id.

    :param home: folder of the databases; created if it does not exist.
    """
    home.mkdir(parents=True, exist_ok=True)
    files = {"flights_db": home / "demo.db", "examples_db": home / "examples.db"}
    with shop.serving() as shop_api:
        yield {
            **{name: json.dumps({"conn_type": "sqlite", "host": str(file)}) for name, file in files.items()},
            "shop_db": shop.make_database(home / "shop.db"),
            "shop_api": shop_api,
        }


def run(home: Path, port: int) -> None:
    """Run Airflow until Ctrl-C or SIGTERM.

    :param port: of the API server; 0: a free one.
    :raises AirflowStartError: when Airflow does not start, or ends by itself.
    """
    with (
        external_services(home) as connections,
        LocalAirflow(home, REPOSITORY / "dags_examples", port=port, connections=connections, tell=_tell) as airflow,
    ):
        print(f"Airflow is ready: {airflow.url} (no log-in; Ctrl-C ends it)", flush=True)
        airflow.wait()


def _tell(text: str) -> None:
    print(f"  {text}", flush=True)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> int:
    """Run until Ctrl-C; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dev.ui", description="Airflow with the example DAGs.")
    parser.add_argument("--home", type=Path, default=REPOSITORY / ".airflow", help="AIRFLOW_HOME (default: .airflow)")
    parser.add_argument("--port", type=int, default=8080, help="port on 127.0.0.1 (default: 8080; 0: a free one)")
    options = parser.parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell starts background jobs with SIGINT ignored
        signal.signal(number, _interrupt)
    print("Starting Airflow ...", flush=True)
    try:
        run(options.home.resolve(), options.port)
    except AirflowStartError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Airflow has ended.", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
