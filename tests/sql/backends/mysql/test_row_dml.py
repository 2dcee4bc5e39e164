"""Statements that write rows to MySQL and MariaDB."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.sql.backends.mysql.row_dml import _require_packet, _sent_size
from airflow_parallel_provider.values.kinds import Kind
from airflow_parallel_provider.values.table_shape import TableColumn, TableShape

SHAPE = TableShape("scores", None, (TableColumn("id", Kind.INT, None), TableColumn("v", Kind.TEXT, None)))


@pytest.mark.parametrize("value", ["x" * 900, "ä" * 450, "'" * 450, b"\0\x1a\\'\"\n\r" * 60, b"\x01" * 900], ids=repr)
def test_row_larger_than_a_packet_is_refused_by_its_column(value: Any) -> None:
    row = (1, value)

    _require_packet(row, 1_000, SHAPE, ("id", "v"))
    with pytest.raises(SchemaMismatch, match=r"table 'scores', column 'v': a row is larger than a packet .* 850 bytes"):
        _require_packet(row, 850, SHAPE, ("id", "v"))


@pytest.mark.parametrize("value", ["ä\n'\"\\\0\x1a\r", b"a\n'\"\\\0\x1a\r\xff", "plain" * 100])
def test_size_is_no_less_than_what_drivers_send(value: Any) -> None:
    converters = pytest.importorskip("mysql.connector.conversion")
    converter = converters.MySQLConverter("utf8mb4")
    pymysql = pytest.importorskip("pymysql.converters")
    texts = [converter.quote(converter.escape(converter.to_mysql(value)))]
    if isinstance(value, str):
        texts.append(pymysql.escape_item(value, "utf8mb4").encode())
    else:
        texts.append(
            f"_binary'{pymysql.escape_string(value.decode('ascii', 'surrogateescape'))}'".encode(
                "utf-8", "surrogateescape"
            )
        )

    assert all(len(text) <= _sent_size(value) <= len(text) + 32 for text in texts)
