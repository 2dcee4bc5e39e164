"""Running figures over all rows of a load.

Each chunk's share, a *partial*, is written into the chunk's ledger row, in the chunk's own transaction, and the
partials are merged when somebody reads. A retry can therefore count nothing twice and forget nothing.

::

    declare.py      Aggregate: what an author writes
    partials.py     the partials of a chunk, their merging, the figures
    operations.py   count, sum, min, max, mean, variance, stddev, quantiles, distinct
    exact_sum.py    sums that do not depend on the order of their parts
    distinct.py     how many different values, approximately (HyperLogLog)
"""
