"""The DAGs of the cookbook run: on files, an HTTP API, Redis and PostgreSQL; its other jobs run in ``test_docs.py``."""

from __future__ import annotations

import gzip
import io
import json
import re
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.examples.test_docs import bag_of, blocks, is_dag
from tests.support import airflow_env
from tests.support.databases import PostgresDatabase
from tests.support.pages import Answer, serving
from tests.support.services import missing

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]

COOKBOOK = Path(__file__).parents[2] / "docs" / "cookbook"
PAGES = sorted(COOKBOOK.glob("*.md"))
JOBS = 10
DAGS = {
    "orders_of_files",
    "photos",
    "texts_of_documents",
    "orders_of_an_api",
    "events_of_a_queue",
    "customers_every_hour",
    "sales_by_day",
    "files_by_tenant",
}


@pytest.fixture(scope="module")
def bag(metadata_database: None) -> Iterator[Any]:
    folder = airflow_env.isolate() / "dags"
    # A reader copies one of them, so each gets a file of its own.
    files = []
    for page in PAGES:
        for number, block in enumerate(each for each in blocks(page) if is_dag(each)):
            copy = folder / f"cookbook_{page.stem}_{number}.py"
            copy.write_text(block, encoding="utf-8")
            files.append(copy)
    yield bag_of(folder)
    for each in files:
        each.unlink()


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    file = tmp_path / "warehouse.db"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(file)}))
    with closing(sqlite3.connect(file)) as connection:
        yield connection


def run(bag: Any, dag_id: str, day: str = "2026-01-05", **conf: Any) -> None:
    from airflow.sdk import timezone

    done = bag.dags[dag_id].test(logical_date=timezone.parse(f"{day}T00:00:00+00:00"), run_conf=conf)
    assert str(done.state) == "success"


def test_the_cookbook_has_ten_jobs(bag: Any) -> None:
    index = COOKBOOK.joinpath("index.md").read_text(encoding="utf-8")
    links = re.findall(r"^\| .+ \| \[.+\]\((.+)\.md#(.+)\) \|$", index, re.MULTILINE)
    titles = {
        (page.stem, re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-"))
        for page in PAGES
        for title in re.findall(r"^## (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    }

    assert len(links) == len(set(links)) == JOBS
    assert set(links) <= titles
    assert set(bag.dags) == DAGS


def test_csv_files(bag: Any, warehouse: sqlite3.Connection, tmp_path: Path) -> None:
    folder = tmp_path / "2026-01-05"
    folder.mkdir()
    for number in range(3):
        lines = [f"{number * 100 + each},2026-01-05,{each}.90" for each in range(100)]
        if number == 1:
            lines[50] = "150,someday,1.00"
        folder.joinpath(f"{number}.csv.gz").write_bytes(gzip.compress("\n".join(["id,day,price", *lines]).encode()))

    run(bag, "orders_of_files", folder=str(tmp_path))

    assert warehouse.execute("SELECT count(*), count(DISTINCT id) FROM orders").fetchone() == (299, 299)
    ((item, cause),) = warehouse.execute("SELECT item, cause FROM orders__dead_letters").fetchall()
    assert (json.loads(item)["id"], "isoformat" in cause) == ("150", True)


def test_images(bag: Any, warehouse: sqlite3.Connection, tmp_path: Path) -> None:
    from PIL import Image

    def picture(name: str, size: tuple[int, int], slope: int) -> None:
        image = Image.new("RGB", size)
        image.putdata([((x * slope) % 256, y % 256, 0) for y in range(size[1]) for x in range(size[0])])
        image.save(tmp_path / name, quality=95)

    for number in range(22):
        picture(f"{number:02}.jpg", (90, 80), 2 + number % 2)
    Image.open(tmp_path / "00.jpg").resize((180, 160)).save(tmp_path / "larger.jpg", quality=95)
    tmp_path.joinpath("broken.jpg").write_bytes(b"no image at all")

    run(bag, "photos", folder=str(tmp_path))

    sizes = warehouse.execute("SELECT width, height, count(*) FROM photos GROUP BY 1, 2 ORDER BY 1").fetchall()
    assert sizes == [(90, 80, 22), (180, 160, 1)]
    alike = "SELECT count(*) FROM photos WHERE looks_like = (SELECT looks_like FROM photos WHERE name = 'larger.jpg')"
    assert warehouse.execute(alike).fetchone() == (12,)
    ((cause,),) = warehouse.execute("SELECT cause FROM photos__dead_letters").fetchall()
    assert "UnidentifiedImageError" in cause


def pdf(*texts: str) -> bytes:
    """A document with one line of text on each page."""
    kids = " ".join(f"{3 + 2 * number} 0 R" for number in range(len(texts)))
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", f"<< /Type /Pages /Kids [{kids}] /Count {len(texts)} >>"]
    font = "<< /Font << /F << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >>"
    for number, text in enumerate(texts):
        drawn = f"BT /F 12 Tf 50 700 Td ({text}) Tj ET" if text else ""
        page = f"/Parent 2 0 R /MediaBox [0 0 600 800] /Contents {4 + 2 * number} 0 R /Resources {font}"
        objects += [f"<< /Type /Page {page} >>", f"<< /Length {len(drawn)} >>\nstream\n{drawn}\nendstream"]
    out = io.BytesIO(b"%PDF-1.4\n")
    out.seek(0, io.SEEK_END)
    places = []
    for number, each in enumerate(objects, start=1):
        places.append(out.tell())
        out.write(f"{number} 0 obj\n{each}\nendobj\n".encode())
    begin = out.tell()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    out.write(f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}".encode())
    out.write(f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{begin}\n%%EOF\n".encode())
    return out.getvalue()


def test_texts_of_documents(bag: Any, warehouse: sqlite3.Connection, tmp_path: Path) -> None:
    for number in range(25):
        tmp_path.joinpath(f"{number:02}.pdf").write_bytes(pdf(f"Dear {number}", "", "Yours"))
    tmp_path.joinpath("scan.pdf").write_bytes(b"%PDF-1.4 cut off")

    run(bag, "texts_of_documents", folder=str(tmp_path))
    tmp_path.joinpath("99.pdf").write_bytes(pdf("late"))
    run(bag, "texts_of_documents", "2026-01-06", folder=str(tmp_path))

    pages = warehouse.execute("SELECT document, page, text FROM pages ORDER BY 1, 2").fetchall()
    assert pages[:3] == [("00.pdf", 1, "Dear 0"), ("00.pdf", 2, None), ("00.pdf", 3, "Yours")]
    assert len(pages) == 76, "each document once"
    assert warehouse.execute("SELECT count(*) FROM pages__dead_letters").fetchone() == (1,)


def test_an_api_with_a_token(bag: Any, warehouse: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = [{"id": each, "customer": {"id": each % 7}, "total": each * 3} for each in range(450)]

    def answer(path: str, query: dict[str, str]) -> Answer:
        assert (path, query["day"], query["sort"]) == ("/v1/orders", "2026-01-05", "id")
        start = (int(query["page"]) - 1) * int(query["per_page"])
        return 200, {}, {"data": orders[start : start + int(query["per_page"])]}

    with serving(answer) as pages:
        token = {**json.loads(pages.connection), "extra": {"Authorization": "Bearer hush"}}
        monkeypatch.setenv("AIRFLOW_CONN_SHOP_API", json.dumps(token))
        run(bag, "orders_of_an_api")

    found = warehouse.execute("SELECT id, customer, total FROM orders ORDER BY id").fetchall()
    assert found == [(each, each % 7, each * 3) for each in range(450)]
    assert {each.get("Authorization") for each in pages.headers} == {"Bearer hush"}


def test_a_queue_is_drained(bag: Any, warehouse: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    redis = pytest.importorskip("redis")
    client = redis.Redis(db=9)  # the name of the stream is that of the page, so it gets a database of its own
    try:
        client.delete("events")
    except redis.RedisError:
        missing("no Redis answers on 127.0.0.1:6379")
    place = {"conn_type": "redis", "host": "127.0.0.1", "port": 6379, "extra": {"db": 9}}
    monkeypatch.setenv("AIRFLOW_CONN_REDIS_DEFAULT", json.dumps(place))
    source = bag.dags["events_of_a_queue"].task_dict["drain"].source
    monkeypatch.setattr(source, "idle", 0.2)
    client.xgroup_create("events", "loader", "0", mkstream=True)
    for number in range(250):
        client.xadd("events", {"body": "no JSON" if number == 99 else json.dumps({"id": number})})
    try:
        run(bag, "events_of_a_queue")
        (group,) = client.xinfo_groups("events")
    finally:
        client.delete("events")
        client.close()

    assert warehouse.execute("SELECT count(DISTINCT id), count(DISTINCT event) FROM events").fetchone() == (249, 249)
    assert warehouse.execute("SELECT count(*) FROM events__dead_letters").fetchone() == (1,)
    assert (group["pending"], group["lag"]) == (0, 0)


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresDatabase]:
    made = PostgresDatabase()
    found = made.connection
    parts = {name: getattr(found, name) for name in ("conn_type", "host", "port", "login", "password", "schema")}
    path = f'"{made.schema}"'.replace(" ", r"\ ")
    options = {"options": f"-csearch_path={path}"}
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", json.dumps({**parts, "extra": options}))
    yield made
    made.drop()


def test_what_is_new_of_a_table(bag: Any, shop: PostgresDatabase, warehouse: sqlite3.Connection) -> None:
    customers = shop.place("customers")
    shop.execute(
        f"CREATE TABLE {customers} (id bigint PRIMARY KEY, email text NOT NULL, updated_at timestamptz NOT NULL)",
        f"INSERT INTO {customers} SELECT n, n || '@example.org', timestamptz '2026-01-01Z' + n * interval '1 second' "
        "FROM generate_series(1, 500) n",
    )
    run(bag, "customers_every_hour")
    shop.execute(
        f"UPDATE {customers} SET email = 'new@example.com', updated_at = '2026-01-02Z' WHERE id = 7",
        f"INSERT INTO {customers} VALUES (501, 'last@example.com', '2026-01-03Z')",
    )
    run(bag, "customers_every_hour", "2026-01-06")

    domains = warehouse.execute("SELECT email, count(*) FROM customers GROUP BY 1 ORDER BY 1").fetchall()
    assert domains == [("example.com", 2), ("example.org", 499)]
    assert warehouse.execute("SELECT sum(items) FROM airflow_parallel_ledger").fetchone() == (503,), (
        "with the one that was last before"
    )


def test_a_backfill_day_by_day(bag: Any, shop: PostgresDatabase, warehouse: sqlite3.Connection) -> None:
    sales = shop.place("sales")
    shop.execute(
        f"CREATE TABLE {sales} (id bigint PRIMARY KEY, day date NOT NULL, net numeric(12,2) NOT NULL)",
        f"INSERT INTO {sales} SELECT n, date '2026-01-01' + n % 3, n FROM generate_series(1, 300) n",
    )
    for day in ("2026-01-01", "2026-01-02", "2026-01-03"):
        run(bag, "sales_by_day", day)

    by_day = warehouse.execute("SELECT day, count(*), count(DISTINCT load_id) FROM sales GROUP BY 1 ORDER BY 1")
    assert by_day.fetchall() == [(f"2026-01-0{day}", 100, 1) for day in (1, 2, 3)]
    (gross,) = warehouse.execute("SELECT gross FROM sales WHERE id = 100").fetchone()
    assert Decimal(str(gross)) == 119


def test_one_pipeline_per_tenant(bag: Any, warehouse: sqlite3.Connection) -> None:
    run(bag, "files_by_tenant")

    found = warehouse.execute("SELECT tenant, count(*), sum(size) FROM files GROUP BY 1 ORDER BY 1").fetchall()
    assert found == [(tenant, 100, 49_500) for tenant in ("north", "south", "west")]
    assert warehouse.execute("SELECT count(*) FROM airflow_parallel_ledger__loads").fetchone() == (3,)
