# SPDX-License-Identifier: Apache-2.0
"""Bundles: what the channels carry. Items, and the keys that say which item of the chunk each one comes from.

An item's *key* is its position in its chunk. Where one call turns an item into several results, the key of each result
is the item's key with the result's number appended. So sorting a chunk's rows by key puts them in source order,
whatever the workers did (law 3), and the first number of a key is always the item that a result belongs to (law 1).

As long as every item has one result, the keys of neighbors are a ``range``: cutting, joining and counting a thousand of
them costs as much as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.engine.dataflow.size_estimate import estimate_bytes

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.dataflow.chunk import Chunk


class Bundle:
    """Calls to be made at one stage, all of one chunk.

    In a stage with ``batch_size`` each element of ``keys`` and ``values`` is a list, one batch; elsewhere one item.
    """

    __slots__ = ("alone", "attempt", "bytes", "chunk", "costs", "keys", "size", "splitting", "values")

    def __init__(
        self,
        chunk: Chunk,
        keys: Sequence[Any],
        values: list[Any],
        size: int,
        attempt: int = 1,
        *,
        splitting: bool = False,
        alone: bool = False,
    ) -> None:
        self.chunk = chunk
        self.keys = keys
        self.values = values
        self.size = size  # items in all calls together
        self.bytes = estimate_bytes(values)
        self.attempt = attempt
        self.splitting = splitting  # part of a batch that is being bisected: no further retries
        self.alone = alone  # suspected of killing its worker process: sent in a message of its own
        self.costs: list[float] | None = None  # of each call, where a rate or a budget weighs them

    def cut(self, calls: int, size: int) -> Bundle:
        """Remove the first ``calls`` calls (``size`` items) and return them as a bundle of their own."""
        head = Bundle(
            self.chunk,
            self.keys[:calls],
            self.values[:calls],
            size,
            self.attempt,
            splitting=self.splitting,
            alone=self.alone,
        )
        if self.costs is not None:
            head.costs, self.costs = self.costs[:calls], self.costs[calls:]
        self.keys = self.keys[calls:]
        del self.values[:calls]
        self.size -= size
        self.bytes -= head.bytes
        return head

    def one(self, index: int, *, batched: bool) -> Bundle:
        """A copy of one call as a bundle of its own."""
        size = len(self.values[index]) if batched else 1
        one = Bundle(
            self.chunk,
            [self.keys[index]],
            [self.values[index]],
            size,
            self.attempt,
            splitting=self.splitting,
            alone=self.alone,
        )
        if self.costs is not None:
            one.costs = [self.costs[index]]
        return one
