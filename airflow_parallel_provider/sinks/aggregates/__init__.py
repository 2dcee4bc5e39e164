# SPDX-License-Identifier: Apache-2.0
"""Aggregates over all rows of a load.

The share of each chunk, a *partial*, is written into the ledger row of the chunk, in the chunk's own transaction. The
partials are merged when they are read. So a retry counts nothing twice and forgets nothing.

::

    declare.py      Aggregate: what an author writes
    partials.py     the partials of a chunk, how they are merged, the results
    operations.py   count, sum, min, max, mean, variance, stddev, quantiles, distinct
    exact_sum.py    sums that do not depend on the order of their parts
    distinct.py     how many distinct values, approximately (HyperLogLog)
    report_view.py  the results as plain JSON for a report
"""
