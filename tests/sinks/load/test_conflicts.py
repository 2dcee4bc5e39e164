"""Several loads at once, and transactions that the database breaks off: tried again, and no raw error of a catalog."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import pytest

from airflow_parallel_provider.sinks.load.table_swap import TableSwap
from tests.support.databases import SPEC, TestDatabase

pytestmark = pytest.mark.airflow


def on(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("database", names, indirect=True)


@on("postgres", "mariadb", "duckdb", "sqlite")
def test_first_loads_that_replace_at_once_all_end_well(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them find no table yet, and give theirs its name."""
    loads = 3
    together = threading.Barrier(loads, timeout=60)
    swap_in = TableSwap._swap_in

    def all_at_once(self: Any, *arguments: Any, **options: Any) -> None:
        if database.name != "duckdb" and not getattr(self.database, "waited", False):
            self.database.waited = True
            together.wait()
        swap_in(self, *arguments, **options)

    monkeypatch.setattr(TableSwap, "_swap_in", all_at_once)
    errors: list[BaseException] = []

    def load(number: int) -> None:
        try:
            spec = dataclasses.replace(SPEC, load_key=f"load {number}")
            with database.opened(spec=spec, write_disposition="replace", lock_timeout=60) as hook:
                hook.write_chunk("00000000", [{"id": number}, {"id": number}])
                hook.consolidate()
        except BaseException as error:
            errors.append(error)
            together.abort()

    threads = [threading.Thread(target=load, args=(number,)) for number in range(loads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    found = database.rows()
    assert len(found) == 2
    assert found[0] == found[1]
    assert [state for (state,) in database.rows("airflow_parallel_ledger__loads", "state")] == ["complete"] * loads


@on("postgres")
@pytest.mark.parametrize("code", ["40001", "40P01", "55P03"])
@pytest.mark.parametrize("disposition", ["append", "replace"])
@pytest.mark.parametrize("table", ["airflow_parallel_ledger__loads", "airflow_parallel_ledger"])
def test_transaction_that_the_server_breaks_off_is_tried_again(
    database: TestDatabase, code: str, disposition: str, table: str
) -> None:
    """The first three changes of a control table fail: at the opening, the commit of a chunk, the swap, the end."""
    count, there = database.place("failures"), database.place("break_off")
    with database.hook(write_disposition=disposition) as hook:
        hook.open(dataclasses.replace(SPEC, load_key="makes the control tables"))
    database.execute(f"CREATE SEQUENCE {count}")  # no rollback sets a sequence back
    with database.opened(write_disposition=disposition, lock_timeout=60) as hook:
        breaking_off(database, table, there, count, code)
        hook.write_chunk("00000000", [{"id": 1}])
        database.execute(f"ALTER SEQUENCE {count} RESTART")
        hook.consolidate()

    assert database.rows() == [(1,)]


def breaking_off(database: TestDatabase, table: str, there: str, count: str, code: str) -> None:
    database.execute(
        f"CREATE FUNCTION {there}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF nextval('{count}') <= 3 THEN RAISE SQLSTATE '{code}'; END IF; RETURN NEW; END $$",
        f"CREATE TRIGGER break_off BEFORE INSERT OR UPDATE ON {database.place(table)} "
        f"FOR EACH ROW EXECUTE FUNCTION {there}()",
    )


@on("postgres")
def test_serializable_transactions_in_conflict_are_tried_again(database: TestDatabase) -> None:
    """With ``default_transaction_isolation``: the server itself gives 40001, also at COMMIT."""
    database.execute(f"CREATE TABLE {database.place('scores')} (id INTEGER PRIMARY KEY, x INTEGER)")
    errors: list[BaseException] = []
    options = {"write_disposition": "merge", "primary_key": "id", "lock_timeout": 60}

    def load(number: int) -> None:
        try:
            spec = dataclasses.replace(SPEC, load_key=f"load {number}")
            with database.opened(spec=spec, **options) as hook:
                connection = hook.destination().database.connection()
                connection.exec_driver_sql("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE")
                connection.commit()
                for chunk in range(5):
                    rows = [{"id": row, "x": number * 1_000 + chunk} for row in range(50)]
                    hook.write_chunk(f"{chunk:08d}", rows, first_position=chunk * 50)
                hook.consolidate()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=load, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert len(database.rows()) == 50
