# SPDX-License-Identifier: Apache-2.0
"""What an attempt at a chunk may find out in its transaction: there is nothing left to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_parallel_provider.errors import LoadMismatch

if TYPE_CHECKING:
    from airflow_parallel_provider.sinks.ledger.chunks import ChunkReceipt


class LoadClosed(LoadMismatch):
    """Another attempt at the load has swapped it in meanwhile."""


class InAlready(Exception):  # not an error: the look has found what the claim would have been refused for
    """The chunk has committed."""

    def __init__(self, receipt: ChunkReceipt) -> None:
        super().__init__(receipt.chunk_id)
        self.receipt = receipt
