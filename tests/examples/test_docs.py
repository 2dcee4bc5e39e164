"""Every Python block of the README and the docs runs: one after the other, as a reader would follow them."""

from __future__ import annotations

import inspect
import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider import (
    FilesSource,
    HttpPagesSource,
    Pipeline,
    SinkDelta,
    SinkFiles,
    SinkIceberg,
    SinkTable,
    SqlSource,
    Stage,
)
from tests.support import airflow_env

REPOSITORY = Path(__file__).parents[2]
README = REPOSITORY / "README.md"
DOCS = REPOSITORY / "docs"
PAGES = [README, *sorted(DOCS.rglob("*.md"))]
BLOCK_OF_SQL = re.compile(r"^```sql\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[str]:
    """The Python blocks of a page."""
    return [found[1] for found in BLOCK.finditer(page.read_text(encoding="utf-8"))]


def name_of(page: Path) -> str:
    """The page's place, as it can stand in a test's id and in a module's name."""
    return "_".join(page.relative_to(REPOSITORY).with_suffix("").parts).replace("-", "_")


def is_dag(block: str) -> bool:
    return "airflow.sdk" in block


def params(*, dags: bool) -> list[object]:
    """Each page with its blocks that declare a DAG, or with those that do not."""
    found = ((page, [block for block in blocks(page) if is_dag(block) == dags]) for page in PAGES)
    return [pytest.param(page, chosen, id=name_of(page)) for page, chosen in found if chosen]


def test_there_are_blocks_to_run() -> None:
    assert sum(len(blocks(page)) for page in PAGES) >= 8
    assert any(is_dag(block) for block in blocks(README))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_fence_is_one_we_know(page: Path) -> None:
    """A block with a misspelt language would silently not be run."""
    languages = set(re.findall(r"^```(\w*)$", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert languages <= {"", "python", "console", "text", "sql"}


@pytest.mark.slow  # CI runs `make docs`, which is the same
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """Every page is in a table of contents, every docstring is well-formed."""
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d", str(tmp_path / "trees")]

    done = subprocess.run(
        [*command, str(DOCS), str(tmp_path / "site")], capture_output=True, text=True, timeout=100, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "chunk_size" in (tmp_path / "site" / "reference" / "pipeline.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("page", "found"), params(dags=False))
def test_blocks_without_airflow_run_as_one_script(page: Path, found: list[str], tmp_path: Path) -> None:
    script = tmp_path / f"{name_of(page)}.py"
    script.write_text("\n\n".join(found), encoding="utf-8")

    finished = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )

    assert finished.returncode == 0, f"{page.name}\n{finished.stdout}{finished.stderr}"


@pytest.mark.airflow
@pytest.mark.parametrize(("page", "found"), params(dags=True))
def test_dag_blocks_are_dag_files(page: Path, found: list[str], tmp_path: Path) -> None:
    for number, block in enumerate(found):
        (tmp_path / f"{name_of(page)}_{number}.py").write_text(block, encoding="utf-8")

    bag = bag_of(tmp_path)

    assert bag.import_errors == {}
    assert len(bag.dags) == len(found)


@pytest.mark.airflow
def test_dags_about_sinks_fill_tables(metadata_database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "warehouse.db"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(file)}))
    folder = airflow_env.isolate() / "dags"
    page = folder / "docs_about_sinks.py"
    about_sinks = sorted((DOCS / "sinks").glob("*.md"))
    dags = [block for each in about_sinks for block in blocks(each) if is_dag(block)]
    page.write_text("\n\n".join(dags), encoding="utf-8")
    queries = BLOCK_OF_SQL.findall((DOCS / "sinks" / "index.md").read_text(encoding="utf-8"))

    try:
        bag = bag_of(folder)
        states = [str(bag.dags[name].test().state) for name in ("prices", "prices_by_hand")]
    finally:
        page.unlink()

    assert states == ["success", "success"]
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT count(*), count(DISTINCT id) FROM prices").fetchone() == (100_000, 100_000)
        answers = [connection.execute(query).fetchall() for query in queries[0].strip().split(";\n")]
    assert [len(answer) for answer in answers] == [110, 2, 0]  # chunks, loads, dead letters


def bag_of(folder: Path) -> Any:
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(dag_folder=folder, bundle_path=folder, bundle_name="dags-folder")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = [*re.findall(r"\]\(([^)#:]+)\)", text), *re.findall(r'src="([^":]+)"', text)]

    missing = [target for target in targets if not (page.parent / target).exists()]

    assert not missing


def test_readme_dag_is_short() -> None:
    """The promise of the README: a whole pipeline in fifteen lines."""
    dag = next(block for block in blocks(README) if is_dag(block))

    assert len([line for line in dag.splitlines() if line.strip()]) <= 15


def test_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").split()) < 900


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_pages_are_short(page: Path) -> None:
    assert page.read_text(encoding="utf-8").count("\n") <= 250, "split it"


NOT_FOR_AUTHORS = {
    "attempt",
    "family",
    "generation",
    "labels",
    "mapped",
    "name",
    "part",
    "shard",
    "shards",
    "worker_env",
    "worker_hooks",
    "self",
    "kwargs",
}
"""Arguments that the operator fills in, or that are none."""


def documented(page: Path, title: str) -> set[str]:
    """Names in the first column of the table that follows ``title``."""
    _, _, after = page.read_text(encoding="utf-8").partition(title)
    rows = re.search(r"(?:^\|.*\n)+", after, re.MULTILINE)
    assert rows is not None
    return {name for row in rows[0].splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])}


def parameters(function: Any) -> set[str]:
    return set(inspect.signature(function).parameters) - NOT_FOR_AUTHORS


@pytest.mark.parametrize(
    ("page", "title", "declared"),
    [
        ("sinks/table.md", "## Arguments", SinkTable),
        ("sinks/files.md", "written last", SinkFiles),
        ("sinks/delta.md", "what was published", SinkDelta),
        ("sinks/iceberg.md", "what was published", SinkIceberg),
        ("sources/files.md", "packed or not", FilesSource),
        ("sources/tables.md", "never with OFFSET", SqlSource),
        ("sources/http.md", "Needs the extra", HttpPagesSource),
    ],
)
def test_page_names_every_argument(page: str, title: str, declared: Any) -> None:
    assert documented(DOCS / page, title) == parameters(declared)


def test_settings_name_every_argument_of_a_stage() -> None:
    assert documented(DOCS / "settings.md", "## Of a stage") == set(inspect.signature(Stage).parameters)


@pytest.mark.airflow
def test_settings_name_every_argument_of_a_pipeline() -> None:
    from airflow_parallel_provider import ParallelPipelineOperator

    every = parameters(Pipeline) | parameters(ParallelPipelineOperator.__init__)

    assert documented(DOCS / "settings.md", "## Of a pipeline") == every
