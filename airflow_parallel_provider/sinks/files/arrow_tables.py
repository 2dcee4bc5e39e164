# SPDX-License-Identifier: Apache-2.0
"""Arrow tables as rows of a chunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_parallel_provider.errors import SchemaMismatch


def are_arrow(rows: Sequence[Any]) -> bool:
    """Whether there are rows, and all of them are Arrow tables or batches."""
    return bool(rows) and all(type(row).__module__.partition(".")[0] == "pyarrow" for row in rows)


def joined(rows: Sequence[Any], where: str) -> Any:
    """The Arrow tables or batches of a chunk as one table.

    :param where: which chunk, for errors.
    :raises SchemaMismatch: if two columns have one name, or the same column has several types.
    """
    import pyarrow as pa

    for row in rows:
        names = row.schema.names
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise SchemaMismatch(f"{where}: its Arrow table has two columns {twice!r}: rename one of them in a stage")
    tables = [row if isinstance(row, pa.Table) else pa.Table.from_batches([row]) for row in rows]
    if len(tables) == 1:
        return tables[0]
    try:
        return pa.concat_tables(tables, promote_options="default").combine_chunks()
    except pa.ArrowException:  # its text may hold a value
        raise SchemaMismatch(
            f"{where}: its Arrow tables have columns of different types: give them one schema"
        ) from None
