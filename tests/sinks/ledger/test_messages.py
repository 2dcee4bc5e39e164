"""Ids of messages on every database: in with their chunk or not at all, and never twice."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from airflow_parallel_provider.engine.interfaces.records import ChunkResult
from airflow_parallel_provider.errors import SchemaMismatch, SinkError
from airflow_parallel_provider.sinks.ledger.definitions import now
from tests.support.databases import SPEC, TestDatabase, on_each_backend

pytestmark = [pytest.mark.airflow, on_each_backend]


def write(hook: Any, chunk_id: str, rows: list[Any], *message_ids: str) -> None:
    chunk = ChunkResult(chunk_id, 0, 0, len(rows), 0, rows, message_ids=message_ids)
    hook.write_chunk(chunk_id, rows, in_transaction=hook.load.record_messages(chunk))


def opened(database: TestDatabase, queue: str = "redis orders", key: str = "nightly") -> Any:
    return database.opened(spec=dataclasses.replace(SPEC, queue=queue, load_key=key))


def test_messages_are_known_to_every_load_of_their_queue(database: TestDatabase) -> None:
    with opened(database) as hook:
        write(hook, "a-00000000", [{"id": 1}, {"id": 2}], "m1", "m2")

    with opened(database, key="another") as again, opened(database, queue="other", key="third") as other:
        found = again.load.known_messages(), other.load.known_messages()

    assert found == (frozenset({"m1", "m2"}), frozenset())


def test_message_of_a_chunk_that_failed_is_not_known(database: TestDatabase) -> None:
    with opened(database) as hook:
        write(hook, "a-00000000", [{"id": 1}], "m1")
        with pytest.raises(SchemaMismatch):
            write(hook, "a-00000001", [{"id": "no number"}], "m2")

        assert hook.load.known_messages() == {"m1"}


def test_message_that_is_in_already_stops_the_chunk(database: TestDatabase) -> None:
    with opened(database) as one, opened(database, key="another") as other:
        write(one, "a-00000000", [{"id": 1}], "m1")
        with pytest.raises(SinkError, match="has committed messages of it in the meantime"):
            write(other, "b-00000000", [{"id": 1}, {"id": 2}], "m1", "m2")

        assert database.rows("scores", "id") == [(1,)]
        assert other.load.known_messages() == {"m1"}


def test_messages_of_long_ago_are_forgotten(database: TestDatabase) -> None:
    with opened(database) as hook:
        write(hook, "a-00000000", [{"id": 1}], "old")
        write(hook, "a-00000001", [{"id": 2}], "new")
        long_ago = now() - timedelta(days=40)
        table = database.place("airflow_parallel_ledger__messages")
        database.execute(f"UPDATE {table} SET committed_at = '{long_ago}' WHERE message_id = 'old'")

        assert hook.load.known_messages() == {"new"}


def test_discarded_load_may_have_its_messages_again(database: TestDatabase) -> None:
    with opened(database) as hook:
        write(hook, "a-00000000", [{"id": 1}], "m1")
    with opened(database, key="another") as hook:
        write(hook, "b-00000000", [{"id": 2}], "m2")

    with database.hook() as hook:
        assert hook.discard("nightly") == 1

    with opened(database) as hook:
        assert hook.load.known_messages() == {"m2"}
