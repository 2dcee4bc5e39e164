"""Where items come from."""

from __future__ import annotations

from airflow_parallel_provider.sources.places import Places


def test_part_of_an_item() -> None:
    places = Places()
    assert places.of(0) is None

    for name, begins in (("a", 0), ("empty", 2), ("b", 2)):
        places.begin(name, begins)

    assert [places.of(position) for position in range(4)] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
