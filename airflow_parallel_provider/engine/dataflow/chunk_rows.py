# SPDX-License-Identifier: Apache-2.0
"""The rows of a complete chunk: in source order, with the positions of their items."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from typing import Any

from airflow_parallel_provider.engine.dataflow.chunk import Chunk
from airflow_parallel_provider.engine.dataflow.keys import item_positions, sort_key


def rows_in_order(chunk: Chunk) -> list[Any]:
    """The chunk's rows in source order."""
    runs = chunk.row_keys
    if all(type(run) is range for run in runs):
        return _runs_in_order(chunk, runs)  # type: ignore[arg-type]
    keys: list[Any] = [key for run in runs for key in run]
    if len({kind is int for kind in set(map(type, keys))}) > 1:  # numbers and paths do not compare
        keys = [sort_key(key) for key in keys]
    if all(map(operator.le, keys, itertools.islice(keys, 1, None))):
        return chunk.rows
    return [chunk.rows[at] for at in sorted(range(len(keys)), key=keys.__getitem__)]


def row_positions(chunk: Chunk) -> list[int]:
    """The position in the source of each row's item, in the order of :func:`rows_in_order`."""
    keys = sorted(sort_key(key) for run in chunk.row_keys for key in run)
    return [chunk.first_position + key[0] for key in keys]


def _runs_in_order(chunk: Chunk, runs: Sequence[range]) -> list[Any]:
    """The rows of runs of neighbors. Runs never overlap, so the rows are in order as soon as the runs are."""
    starts = [run.start for run in runs]
    if all(map(operator.le, starts, itertools.islice(starts, 1, None))):
        return chunk.rows
    ends = list(itertools.accumulate(map(len, runs)))
    rows: list[Any] = []
    for at in sorted(range(len(runs)), key=starts.__getitem__):
        rows += chunk.rows[ends[at] - len(runs[at]) : ends[at]]
    return rows


def committed_items(chunk: Chunk) -> int:
    """How many items have at least one row and are not dead-lettered."""
    positions: set[int] = set()
    in_ranges = 0
    for run in chunk.row_keys:
        if type(run) is range and chunk.dead.isdisjoint(run):
            in_ranges += len(run)  # the only rows of these items: no other run names them
        elif set(map(type, run)) == {tuple}:  # results of single items, each with its path
            positions.update(path[0] for path in run)  # type: ignore[index]  # just checked
        else:
            positions.update(position for key in run for position in item_positions(key))
    return in_ranges + len(positions - chunk.dead)
