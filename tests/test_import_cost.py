"""Importing costs nothing: every Airflow process imports every provider."""

from __future__ import annotations

from tests.support.interpreters import fresh_interpreter, heavy_among

PACKAGE = "airflow_parallel_provider"


def test_importing_the_package_loads_almost_nothing() -> None:
    modules = fresh_interpreter(f"import {PACKAGE}")

    assert heavy_among(modules) == set()
    assert {name for name in modules if name.startswith(f"{PACKAGE}.")} == set()


def test_importing_the_provider_info_loads_almost_nothing() -> None:
    modules = fresh_interpreter(f"from {PACKAGE}.get_provider_info import get_provider_info; get_provider_info()")

    assert heavy_among(modules) == set()


def test_declaring_a_pipeline_needs_no_airflow_and_no_database() -> None:
    modules = fresh_interpreter(
        f"from {PACKAGE} import DROP, ListSink, Pipeline, Retry, Stage, StopToken\n"
        "Pipeline([1], [Stage(repr, retry=Retry(2))], ListSink())"
    )

    assert heavy_among(modules) & {"airflow", "sqlalchemy", "sqlite3", "pandas", "numpy", "pyarrow", "fastapi"} == set()


def test_the_engine_runs_where_airflow_is_not_installed() -> None:
    blocked = ("airflow", "sqlalchemy", "pandas", "numpy", "pyarrow", "fastapi", "pendulum")
    code = (
        f"import importlib, pkgutil, sys\nfor name in {blocked!r}: sys.modules[name] = None\n"
        f"import {PACKAGE}.engine as engine\n"
        "for each in pkgutil.walk_packages(engine.__path__, engine.__name__ + '.'):\n"
        "    if not each.name.endswith('.boot'): importlib.import_module(each.name)\n"
        f"from {PACKAGE} import ListSink, Pipeline, Stage\n"
        "sink = ListSink()\n"
        "Pipeline(range(20), [Stage(repr), Stage(len, kind='process', workers=1)], sink).run()\n"
        "assert sink.rows == [1] * 10 + [2] * 10, sink.rows\n"
    )

    fresh_interpreter(code)
