"""Dead letters are replayed exactly once, no matter what dies, which other attempts run, and how often."""

from __future__ import annotations

import dataclasses
import functools
import random
from typing import Any

import pytest

from airflow_parallel_provider import DROP, Pipeline, RunFailed, SinkTable, Stage
from airflow_parallel_provider.engine.interfaces.records import DeadLetter
from airflow_parallel_provider.errors import PlanError, SinkError
from airflow_parallel_provider.sinks.replay import Replay, check_replayable
from airflow_parallel_provider.values.typed_json import Opaque
from tests.support.children import KILLED, Child, killing_hook
from tests.support.databases import OWN, SPEC, TestDatabase, on_each_backend, on_each_database, on_two_databases
from tests.support.turns import in_turn

pytestmark = pytest.mark.airflow
OWN_BACKENDS = pytest.mark.parametrize("database", OWN, indirect=True)
COUNT = 60


def broken(number: int) -> dict[str, int]:
    if number % 3 == 0:
        raise ValueError("threes are not done yet")
    return {"id": number, "value": number * number}


def mended(number: int) -> dict[str, int]:
    return {"id": number, "value": number * number}


def declared(database: TestDatabase, **options: Any) -> SinkTable:
    return SinkTable("scores", conn_id="warehouse", schema=database.schema, lock_timeout=10, **options)


@pytest.fixture(autouse=True)
def connection(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hooks that are made from a declaration find the database of the test."""
    if "database" not in request.fixturenames:
        return
    database = request.getfixturevalue("database")
    from airflow_parallel_provider.sql import database as module

    monkeypatch.setattr(module, "get_connection", lambda *_: database.connection)


def load(database: TestDatabase, key: str = "nightly", items: Any = None, **options: Any) -> None:
    source = range(COUNT) if items is None else items
    Pipeline(source, [Stage(broken)], declared(database, **options), chunk_size=10, tolerance=1.0, load_key=key).run()


def replay(
    database: TestDatabase, function: Any = mended, load_key: str | None = None, own: str = "replay", **options: Any
) -> Any:
    one = Replay(declared(database, **options), "broken", own=own, load_key=load_key)
    stages = [Stage(function, name="broken")]
    return Pipeline(one.source(), stages, one.sink(), chunk_size=4, tolerance=1.0, load_key=own).run()


def dead_letters(database: TestDatabase, columns: str = "position, load_key, resolved_at, cause") -> list[Any]:
    return database.rows("scores__dead_letters", columns, "load_id, chunk_id, number")


def unresolved(database: TestDatabase) -> list[int]:
    return sorted(row[0] for row in dead_letters(database) if row[2] is None)


THREES = list(range(0, COUNT, 3))
ALL = [(number, number * number) for number in range(COUNT)]


@on_each_database
def test_dead_letters_become_rows_and_are_resolved(database: TestDatabase) -> None:
    load(database)
    assert unresolved(database) == THREES

    report = replay(database)

    assert report.items_committed == len(THREES)
    assert database.rows(columns="id, value") == ALL
    assert unresolved(database) == []
    assert all("/" in by for (by,) in dead_letters(database, "resolved_by"))
    assert replay(database, own="second").items_read == 0
    assert database.rows(columns="id, value") == ALL


@on_two_databases
def test_what_fails_again_is_a_new_dead_letter_of_the_same_load(database: TestDatabase) -> None:
    load(database)

    def half_mended(number: int) -> Any:
        if number % 2:
            raise KeyError("odd")
        return DROP if number == 0 else mended(number)

    replay(database, half_mended)
    odd = [number for number in THREES if number % 2]

    assert unresolved(database) == odd
    assert len(dead_letters(database)) == len(THREES) + len(odd)
    assert {row[1] for row in dead_letters(database)} == {"nightly"}
    assert {row[3].partition(":")[0] for row in dead_letters(database) if row[2] is None} == {"KeyError"}
    assert replay(database, own="second", load_key="nightly").items_committed == len(odd)
    assert database.rows(columns="id, value") == ALL[1:]
    assert unresolved(database) == []


# In an earlier version the first of these ended the replay, and the letters after it were never reached.
@on_two_databases
@pytest.mark.parametrize(
    "item",
    ["{cut", '{"$type": "Decimal", "value": "many"}', '{"$type": "timedelta", "value": [1e99, 0, 0]}', "[" * 10**4],
)
def test_a_malformed_dead_letter_ends_that_letter_only(
    database: TestDatabase, item: str, caplog: pytest.LogCaptureFixture
) -> None:
    load(database)
    table = database.place("scores__dead_letters")
    database.execute(f"UPDATE {table} SET item = '{item}' WHERE position = 3")

    report = replay(database)

    assert report.items_committed == len(THREES) - 1
    assert unresolved(database) == [3]
    assert "(item 3 of nightly) stays unresolved: its item cannot be read" in caplog.text


def knot_of(number: int) -> Any:
    """An item with two children that point back to it, and one of whose parts is shared 2 ** 40 times."""
    item: dict[str, Any] = {"number": number}
    shared: Any = [number]
    for _ in range(40):
        shared = [shared, shared]
    return item | {"left": {"parent": item}, "right": {"parent": item}, "shared": shared}


# In an earlier version the write of these dead letters did not end.
@on_two_databases
def test_items_that_contain_themselves_become_dead_letters(database: TestDatabase) -> None:
    items = [knot_of(number) for number in range(10)]
    for item in items:
        item["left"]["parent"] = item["right"]["parent"] = item

    Pipeline(items, [Stage(refuse)], declared(database), tolerance=1.0, load_key="knots").run()

    found = database.rows("scores__dead_letters", "item, item_complete", "position")
    assert [bool(complete) for _, complete in found] == [False] * 10
    assert all('"number' in text.replace("\\", "") for text, _ in found)


def refuse(item: Any) -> dict[str, int]:
    if item != 0:
        raise ValueError(item)
    return {"id": 0, "value": 0}


@on_two_databases
def test_only_the_dead_letters_of_one_load(database: TestDatabase) -> None:
    load(database, "monday", range(30))
    load(database, "tuesday", range(30, COUNT))

    replay(database, load_key="tuesday")

    assert unresolved(database) == [number for number in THREES if number < 30]


@on_each_database
def test_chunk_that_fails_the_run_leaves_its_dead_letters_as_they_were(database: TestDatabase) -> None:
    load(database)
    before = dead_letters(database)
    one = Replay(declared(database), "broken", own="replay")

    with pytest.raises(RunFailed):
        Pipeline(one.source(), [Stage(broken)], one.sink(), chunk_size=4, load_key="replay").run()

    assert dead_letters(database) == before


def replay_attempt(database: TestDatabase, number: int, visits: int | None, point: str | None = None) -> None:
    from airflow_parallel_provider.sinks.load.table_loader import TableLoader

    if visits is not None:
        killing: Any = killing_hook(visits, point)
        TableLoader.reached = killing.reached  # type: ignore[method-assign]
        TableLoader.seen = 0  # type: ignore[attr-defined]
    replay(database, own=f"replay-{number}")


@pytest.mark.parametrize("point", ["after_claim", "after_rows", "before_commit", "after_commit"])
@OWN_BACKENDS
@in_turn("mariadb", "duckdb", "postgres-psycopg2")
def test_killed_replay_is_gone_on_with(database: TestDatabase, point: str) -> None:
    load(database)
    assert Child(lambda: replay_attempt(database, 1, 2, point)).wait() == KILLED
    left = len(unresolved(database))

    replay(database, own="second")

    assert left == len(THREES) - (8 if point == "after_commit" else 4)
    assert database.rows(columns="id, value") == ALL
    assert unresolved(database) == []


@on_each_backend
def test_overlapping_replays_that_die_lose_and_double_nothing(database: TestDatabase) -> None:
    load(database)
    draw = random.Random(7)
    for number in range(1, 30):
        visits = [draw.randint(1, 9) if number < 6 else None for _ in range(2)]
        pair = [
            Child(functools.partial(replay_attempt, database, number * 2 + at, each)) for at, each in enumerate(visits)
        ]
        for child in pair:
            child.wait()  # killed, or refused because the other one was faster, or done
        if not unresolved(database):
            break

    assert unresolved(database) == []
    assert database.rows(columns="id, value") == ALL


@on_each_database
def test_dead_letter_somebody_else_has_resolved_meanwhile_stops_the_chunk(database: TestDatabase) -> None:
    load(database)
    with database.hook() as first, database.hook() as second:
        mine = list(first.dead_letters())
        replay(database)
        second.open(dataclasses.replace(SPEC, load_key="late"))

        def mark(connection: Any) -> None:
            marked = second.resolve_dead_letters(connection, [mine[0].key], "00000000")
            if marked != 1:
                raise SinkError("too late")

        with pytest.raises(SinkError, match="too late"):
            second.write_chunk("00000000", [{"id": 0, "value": 0}], in_transaction=mark)

    assert database.rows(columns="id, value") == ALL


@on_each_database
def test_dead_letter_whose_rows_the_table_refuses_again_is_not_resolved(database: TestDatabase) -> None:
    load(database)
    scores = database.place("scores")
    columns = "id INTEGER, value INTEGER CHECK (id % 2 = 0)"
    database.execute(f"DROP TABLE {scores}", f"CREATE TABLE {scores} ({columns})")

    def one_or_two_rows(number: int) -> Any:
        yield mended(number)
        if number % 4 == 3:
            yield {**mended(number), "id": number + 1}

    report = replay(database, one_or_two_rows)

    # The second row of 3, 15, 27, ... is in the table.
    left = [number for number in THREES if number % 4 == 1]
    assert unresolved(database) == left
    assert report.rows_rejected == sum(number % 2 for number in THREES)
    assert replay(database, own="second").items_read == len(left)


@on_each_database
def test_replay_into_a_table_that_takes_no_rows_resolves_nothing(database: TestDatabase) -> None:
    load(database)
    scores = database.place("scores")
    database.execute(f"DROP TABLE {scores}", f"CREATE TABLE {database.place('behind')} (id INTEGER, value INTEGER)")
    database.execute(f"CREATE VIEW {scores} AS SELECT id, value FROM {database.place('behind')} GROUP BY id, value")
    before = dead_letters(database)
    try:
        with pytest.raises(RunFailed, match="if it is a view, name the table behind it"):
            replay(database)
    finally:
        database.execute(f"DROP VIEW {scores}")

    assert dead_letters(database) == before


@dataclasses.dataclass
class Flight:
    """Not among the types that JSON gives back."""

    id: int


@on_each_database
def test_item_that_was_not_kept_exactly_takes_a_pickle_the_author_asked_for(database: TestDatabase) -> None:
    found = {}
    for table, keeps in (("plain", False), ("pickled", True)):
        with database.opened(table, dead_letter_pickle=keeps) as hook:
            kept = [DeadLetter(at, "s", "E: x", 1, "", item) for at, item in enumerate([Flight(7), 5, lambda: 1])]
            hook.write_chunk("00000000", [], items=3, dead_letters=kept)
            assert hook.dead_letters_waiting() == {"s": (3, 3 if keeps else 1)}
            found[table] = list(hook.dead_letters())

    plain, pickled = found["plain"], found["pickled"]
    assert [each.item_pickle is None for each in plain] == [True] * 3
    assert [each.item_pickle is None for each in pickled] == [False, True, False]
    assert [each.replayable(allow_pickle=True) for each in plain] == [False, True, False]
    assert pickled[0].item(allow_pickle=True) == Flight(7)
    assert isinstance(pickled[0].item(), Opaque)
    assert [each.replayable() for each in pickled] == [False, True, False]


@on_two_databases
def test_pickle_that_is_too_long_or_impossible_is_left_out(database: TestDatabase) -> None:
    class Stubborn:
        def __reduce__(self) -> Any:
            raise RuntimeError("no")

    with database.opened(dead_letter_pickle=True) as hook:
        items = [Stubborn(), Flight("x" * 1_100_000)]  # type: ignore[arg-type]
        hook.write_chunk(
            "00000000", [], items=2, dead_letters=[DeadLetter(n, "s", "E: x", 1, "", i) for n, i in enumerate(items)]
        )
        assert [each.item_pickle for each in hook.dead_letters()] == [None, None]


@on_each_database
def test_dead_letters_are_read_page_by_page(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_parallel_provider.sinks.load import maintenance

    monkeypatch.setattr(maintenance, "_PAGE", 7)
    load(database)
    with database.hook() as hook:
        assert [each.item() for each in hook.dead_letters(stage="broken")] == THREES
        assert list(hook.dead_letters(stage="other")) == []


@pytest.mark.parametrize(
    ("sink", "complaint"),
    [
        (5, "sink=5: give the SinkTable"),
        (SinkTable("t", conn_id="c", dead_letters=None), "with dead_letters=None it has no table"),
    ],
)
def test_sinks_whose_dead_letters_cannot_be_replayed(sink: Any, complaint: str) -> None:
    with pytest.raises(PlanError, match=complaint):
        check_replayable(sink)


@on_two_databases
def test_hook_without_dead_letters_says_so(database: TestDatabase) -> None:
    with database.hook(dead_letters=None) as hook, pytest.raises(SinkError, match="has no table of dead letters"):
        hook.dead_letters_waiting()
