"""Pickles of dead letters' items that an earlier version of this package has written can still be replayed."""

from __future__ import annotations

import base64
import importlib
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_parallel_provider import DROP
from airflow_parallel_provider.engine.interfaces.drop import _Drop
from airflow_parallel_provider.engine.interfaces.records import DeadLetter
from airflow_parallel_provider.foreign import calls
from airflow_parallel_provider.sinks.ledger import item_pickle
from airflow_parallel_provider.sinks.ledger.dead_letters import StoredDeadLetter
from airflow_parallel_provider.values.items import Message, SourceFile
from airflow_parallel_provider.values.kinds import Column, Kind
from airflow_parallel_provider.values.typed_json import Opaque
from tests.support.liars import ACTS, RELEASED, liar

WRITTEN_BEFORE = """
    gAWVVQIAAAAAAAB9lCiMBGRyb3CUjCdhaXJmbG93X3BhcmFsbGVsX3Byb3ZpZGVyLmVuZ2luZS52YWx1ZXOUjAREUk9QlJOUjApk
    cm9wX2NsYXNzlGgCjAVfRHJvcJSTlIwHbWVzc2FnZZSMKWFpcmZsb3dfcGFyYWxsZWxfcHJvdmlkZXIuc291cmNlcy5icm9rZXJz
    lIwHTWVzc2FnZZSTlCmBlF2UKIwCbTGUQwUAYm9keZR9lIwBYZSMAWKUc2VijARmaWxllIwpYWlyZmxvd19wYXJhbGxlbF9wcm92
    aWRlci5zb3VyY2VzLnN0b3JhZ2WUjApTb3VyY2VGaWxllJOUKYGUXZQojBJzMzovL2xha2UvaW4vYS5jc3aUSwOMAmUxlE5lYowG
    Y29sdW1ulIwlYWlyZmxvd19wYXJhbGxlbF9wcm92aWRlci5zaW5rcy5raW5kc5SMBkNvbHVtbpSTlCmBlF2UKIwCaWSUaByMBEtp
    bmSUk5SMB2RlY2ltYWyUhZRSlE5LBEsCZWKMC2RlYWRfbGV0dGVylIwlYWlyZmxvd19wYXJhbGxlbF9wcm92aWRlci5lbmdpbmUu
    c2lua5SMCkRlYWRMZXR0ZXKUk5QpgZRdlChLA4wFcGFyc2WUjA5WYWx1ZUVycm9yOiBub5RLAowAlEMBeJRlYowGb3BhcXVllIwq
    YWlyZmxvd19wYXJhbGxlbF9wcm92aWRlci5zaW5rcy50eXBlZF9qc29ulIwGT3BhcXVllJOUKYGUXZQojApzaG9wOk9yZGVylIwD
    Y3V0lGVidS4=
"""
"""An item with all that may be in one, pickled by the code before its modules were moved (commit 92d4b68)."""


def stored(pickled: bytes) -> StoredDeadLetter:
    """A dead letter whose item only the pickle gives back."""
    return StoredDeadLetter(
        key=("load", "00000000", 0),
        load_key="nightly",
        position=0,
        stage="parse",
        cause="ValueError: no",
        attempts=1,
        traceback="",
        item_text="{}",
        item_complete=False,
        item_pickle=pickled,
        failed_at=datetime.now(UTC),
    )


def test_pickle_that_names_old_modules_gives_the_item_back() -> None:
    item: dict[str, Any] = stored(base64.b64decode(WRITTEN_BEFORE)).item(allow_pickle=True)

    assert item.pop("drop") is DROP
    assert item.pop("drop_class") is _Drop
    assert item == {
        "message": Message("m1", b"\x00body", {"a": "b"}),
        "file": SourceFile("s3://lake/in/a.csv", size=3, etag="e1"),
        "column": Column("id", Kind.DECIMAL, precision=4, scale=2),
        "dead_letter": DeadLetter(3, "parse", "ValueError: no", 2, "", b"x"),
        "opaque": Opaque("shop:Order", "cut"),
    }


@pytest.mark.parametrize(("old", "new"), item_pickle._MOVED.items())
def test_what_has_moved_is_where_the_table_says(old: tuple[str, str], new: str) -> None:
    module = importlib.import_module(f"airflow_parallel_provider.{new}")

    assert hasattr(module, old[1])
    with pytest.raises(ImportError):  # else the pickle needs no help
        importlib.import_module(f"airflow_parallel_provider.{old[0]}")


def test_pickle_of_today_is_read() -> None:
    item = {"message": Message("m1", b"x"), "drop": DROP}
    pickled = item_pickle.dump_item(item)

    assert pickled is not None
    assert stored(pickled).item(allow_pickle=True) == item


@pytest.mark.parametrize("name", ["os:no_such_name", "airflow_parallel_provider.sinks.kinds:Gone"])
def test_name_that_nothing_has_is_an_error(name: str) -> None:
    module, _, attribute = name.partition(":")

    with pytest.raises((AttributeError, ImportError)):
        item_pickle.load_item(f"c{module}\n{attribute}\n.".encode())


# In an earlier version these ended the load.
@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_an_item_whose_pickling_hangs_or_exits_has_no_pickle(act: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "SECONDS", 0.2)
    monkeypatch.setattr(calls, "_hung", {})
    RELEASED.clear()
    try:
        assert item_pickle.dump_item([liar("__reduce__", act)()]) is None
        assert item_pickle.dump_item([1]) is not None
    finally:
        RELEASED.set()
