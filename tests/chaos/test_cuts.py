"""A connection that is cut at a COMMIT: whether it happened is unknown, so the sink looks into the ledger."""

from __future__ import annotations

import pytest

from tests.chaos.proxy import AFTER, BEFORE, CUTS, DURING, CuttingProxy, MysqlMessages, PostgresMessages
from tests.support.children import everything, rows_of
from tests.support.databases import SPEC, TestDatabase
from tests.support.turns import in_turn

pytestmark = pytest.mark.airflow
SIZE = 50
MESSAGES = {"postgres": PostgresMessages, "mariadb": MysqlMessages}


@pytest.mark.parametrize("commit", [1, 3])
@pytest.mark.parametrize("how", CUTS)
@pytest.mark.parametrize("database", ["postgres", "mariadb", "postgres-generic", "mariadb-generic"], indirect=True)
@in_turn("postgres-generic", "mariadb-generic")
def test_chunk_whose_commit_was_cut_off_is_in_once(database: TestDatabase, how: str, commit: int) -> None:
    with CuttingProxy(database.upstream, MESSAGES[database.name]) as proxy:
        with database.through(proxy.port).hook() as hook:
            hook.open(SPEC)
            proxy.cut_at(commit, how)
            for chunk in range(4):
                receipt = hook.write_chunk(f"{chunk:08d}", rows_of(chunk, SIZE), first_position=chunk * SIZE)
                assert receipt.rows == SIZE
            hook.consolidate()
        assert proxy.cuts == 1

    assert database.rows(columns="id, name") == everything(4, SIZE)
    assert [row[:3] for row in database.ledger()] == [(f"{chunk:08d}", SIZE, SIZE) for chunk in range(4)]


@pytest.mark.parametrize("how", CUTS)
@pytest.mark.parametrize("database", ["postgres", "mariadb"], indirect=True)
def test_what_the_proxy_does_is_what_it_says(database: TestDatabase, how: str) -> None:
    """Without the sink: the driver sees one and the same error, whether the server has committed or not."""
    database.execute(f"CREATE TABLE {database.place('plain')} (id INTEGER)")
    with CuttingProxy(database.upstream, MESSAGES[database.name]) as proxy:
        raw = database.through(proxy.port).hook().get_conn()
        cursor = raw.cursor()
        cursor.execute(f"INSERT INTO {database.place('plain')} VALUES (1)")
        proxy.cut_at(1, how)
        with pytest.raises(
            Exception, match=r"(?i)lost connection|closed the connection|connection.*reset|not connected"
        ):
            raw.commit()
        proxied = proxy.cuts
        raw.close()

    assert proxied == 1
    found = len(database.rows("plain"))
    assert found == {BEFORE: 0, AFTER: 1}.get(how, found)
    assert how != DURING or found in {0, 1}


def test_a_row_that_says_commit_is_no_commit() -> None:
    started = PostgresMessages()
    startup = (196608).to_bytes(4) + b"user\0x\0\0"
    commit = b"Q" + (11).to_bytes(4) + b"COMMIT\0"
    row = b"d" + (4 + len(commit)).to_bytes(4) + commit

    assert not started.commit_in((4 + len(startup)).to_bytes(4) + startup)
    assert not started.commit_in(row)
    assert not started.commit_in(commit[:7])
    assert started.commit_in(commit[7:])
    assert not MysqlMessages().commit_in(b"\x0e\0\0\0\x03SELECT COMMIT")
    assert MysqlMessages().commit_in(b"\x07\0\0\0\x03commit")
