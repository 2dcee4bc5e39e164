"""Credentials stay on the origin that the connection names."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from airflow_parallel_provider import HttpPagesSource, PlanError
from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.sources.http import page_reader
from tests.support.pages import Answer, Pages, serving

pytestmark = pytest.mark.airflow

Connect = Callable[..., None]

SECRETS = ("Authorization", "X-Api-Key", "Cookie", "X-Team", "Proxy-Authorization")


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Pages]]:
    """Starts servers; ``home`` is then the one that the connection names."""
    monkeypatch.setattr(page_reader, "FIRST_WAIT", 0.001)
    with ExitStack() as stack:

        def start(answer: Callable[[str, dict[str, str]], Answer | None], host: str = "127.0.0.1") -> Pages:
            return stack.enter_context(serving(answer, host))

        yield start


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Makes the connection to a server, with a login, a key and a header that the source adds."""

    def make(pages: Pages, **changed: Any) -> None:
        given = {"login": "me", "password": "word", "extra": {"X-Api-Key": "key"}, **changed}
        monkeypatch.setenv("AIRFLOW_CONN_API", json.dumps({**json.loads(pages.connection), **given}))

    return make


def source(**options: Any) -> HttpPagesSource:
    headers = {"X-Team": "data", "Cookie": "session=7", "Accept-Language": "de"}
    return HttpPagesSource("/v1/items", **{"conn_id": "api", "headers": headers, "readers": 1, **options})


def secrets_of(pages: Pages) -> list[list[str]]:
    """What each request carried."""
    return [[name for name in SECRETS if name in headers] for headers in pages.headers]


def items(path: str, query: dict[str, str]) -> Answer:
    return 200, {}, [1, 2] if query.get("page", "1") == "1" else []


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_redirect_to_another_port_goes_without_credentials(
    servers: Callable[..., Pages], connect: Connect, status: int
) -> None:
    other = servers(items)
    home = servers(
        lambda path, query: (status, {"Location": f"http://127.0.0.1:{other.port}{path}?page={query['page']}"}, {})
    )
    connect(home)

    assert list(source()) == [1, 2]
    assert set(map(tuple, secrets_of(home))) == {("Authorization", "X-Api-Key", "Cookie", "X-Team")}
    assert set(map(tuple, secrets_of(other))) == {()}
    assert other.headers[0]["Accept-Language"] == "de"


def test_redirect_to_another_name_of_the_host_goes_without_credentials(
    servers: Callable[..., Pages], connect: Connect
) -> None:
    def answer(path: str, query: dict[str, str]) -> Answer:
        if path == "/v1/items":
            return 302, {"Location": f"http://LOCALHOST:{home.port}/there?page={query['page']}"}, {}
        return items(path, query)

    home = servers(answer)
    connect(home)

    assert list(source()) == [1, 2]
    assert [bool(found) for found in secrets_of(home)] == [path == "/v1/items" for path, _ in home.asked]


@pytest.mark.parametrize(
    "place",
    [
        "/there?page={page}",
        "../there?page={page}",
        "//127.0.0.1:{port}/there?page={page}",
        "HTTP://127.0.0.1:{port}/there?page={page}",
        "http://evil:word@127.0.0.1:{port}/there?page={page}",
    ],
)
def test_redirect_on_the_own_origin_keeps_credentials(
    servers: Callable[..., Pages], connect: Connect, place: str
) -> None:
    def answer(path: str, query: dict[str, str]) -> Answer:
        if path == "/v1/items":
            return 307, {"Location": place.format(port=home.port, page=query["page"])}, {}
        return items(path, query)

    home = servers(answer)
    connect(home)

    assert list(source()) == [1, 2]
    login = "Basic " + base64.b64encode(b"me:word").decode()
    assert {headers["Authorization"] for headers in home.headers} == {login}


def test_chain_that_comes_back_goes_without_credentials(servers: Callable[..., Pages], connect: Connect) -> None:
    """The other server has chosen where it goes."""

    def answer(path: str, query: dict[str, str]) -> Answer:
        if path == "/v1/items":
            return 302, {"Location": f"http://127.0.0.1:{other.port}/a?page={query['page']}"}, {}
        return items(path, query)

    home = servers(answer)
    other = servers(
        lambda path, query: (302, {"Location": f"http://127.0.0.1:{home.port}/back?page={query['page']}"}, {})
    )
    connect(home)

    assert list(source()) == [1, 2]
    assert [bool(found) for found in secrets_of(home)] == [path == "/v1/items" for path, _ in home.asked]


def test_cookies_of_the_server_stay_there(servers: Callable[..., Pages], connect: Connect) -> None:
    """By port, too: browsers do not tell ports apart."""

    def answer(path: str, query: dict[str, str]) -> Answer:
        if query["page"] == "1":
            return 200, {"Set-Cookie": "session=1; Path=/"}, [1]
        return 302, {"Location": f"http://127.0.0.1:{other.port}/", "Set-Cookie": "more=1; Path=/"}, {}

    other = servers(lambda path, query: (200, {"Set-Cookie": "tracked=1; Path=/"}, []))
    home = servers(answer)
    connect(home)

    assert list(source(headers={})) == [1]
    assert "session=1" in home.headers[1]["Cookie"]
    assert "Cookie" not in other.headers[0]


@pytest.mark.parametrize("in_url", [False, True], ids=["login", "address"])
def test_login_may_be_part_of_the_address(
    servers: Callable[..., Pages], connect: Connect, monkeypatch: pytest.MonkeyPatch, in_url: bool
) -> None:
    other = servers(items)
    home = servers(lambda path, query: (302, {"Location": f"http://me:word@127.0.0.1:{other.port}/"}, {}))
    host = "http://me:w%2Frd@127.0.0.1" if in_url else "127.0.0.1"
    connect(home, host=host, **({"login": None, "password": None} if in_url else {"password": "w/rd"}))

    next(iter(source()))

    assert home.headers[0]["Authorization"] == "Basic " + base64.b64encode(b"me:w/rd").decode()
    assert secrets_of(other)[0] == []


def test_login_of_netrc_stays_away_from_other_servers(
    servers: Callable[..., Pages], connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "netrc").write_text("default login me password word\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    other = servers(items)
    home = servers(lambda path, query: (302, {"Location": f"http://127.0.0.1:{other.port}/"}, {}))
    connect(home, login=None, password=None)

    next(iter(source()))

    assert "Authorization" in home.headers[0]
    assert "Authorization" not in other.headers[0]


def test_refusal_of_another_server_says_why(servers: Callable[..., Pages], connect: Connect) -> None:
    other = servers(lambda path, query: (401, {}, {}))
    home = servers(lambda path, query: (302, {"Location": f"http://127.0.0.1:{other.port}/?key=secret"}, {}))
    connect(home)

    with pytest.raises(
        SourceError, match=rf"page 1: .*401 Unauthorized.*trusted_origins=\['http://127.0.0.1:{other.port}'\]"
    ) as caught:
        list(source())
    assert "secret" not in str(caught.value)


def following(pagination: str, address: str) -> Answer:
    """A page that names the next one."""
    if pagination == "link":
        return 200, {"Link": f'<{address}>; rel="next"'}, [1]
    return 200, {}, {"rows": [1], "next": address}


def chain(pagination: str, **options: Any) -> HttpPagesSource:
    more = {} if pagination == "link" else {"items": "rows", "next_cursor": "next"}
    return source(pagination=pagination, **more, **options)


def last(pagination: str) -> Answer:
    return 200, {}, [2] if pagination == "link" else {"rows": [2], "next": None}


@pytest.mark.parametrize("pagination", ["link", "cursor"])
def test_next_page_on_another_server_is_refused(
    servers: Callable[..., Pages], connect: Connect, pagination: str
) -> None:
    other = servers(lambda path, query: last(pagination))
    home = servers(lambda path, query: following(pagination, f"http://127.0.0.1:{other.port}/v1"))
    connect(home)
    wanted = rf"page 1: names a next page on another server, .*trusted_origins=\['http://127.0.0.1:{other.port}'\]"

    with pytest.raises(SourceError, match=wanted):
        list(chain(pagination))
    assert not other.asked


@pytest.mark.parametrize("pagination", ["link", "cursor"])
def test_next_page_after_a_redirect_is_refused(
    servers: Callable[..., Pages], connect: Connect, pagination: str
) -> None:
    """The other server names its own next page: with a login it would get that."""
    other = servers(lambda path, query: following(pagination, "/v1?page=2"))
    home = servers(lambda path, query: (302, {"Location": f"http://127.0.0.1:{other.port}/v1"}, {}))
    connect(home)

    with pytest.raises(SourceError, match="page 1: names a next page on another server"):
        list(chain(pagination))
    assert secrets_of(other) == [[]]


@pytest.mark.parametrize("pagination", ["link", "cursor"])
def test_next_page_of_a_trusted_origin_is_read(
    servers: Callable[..., Pages], connect: Connect, pagination: str
) -> None:
    other = servers(lambda path, query: last(pagination))
    home = servers(lambda path, query: following(pagination, f"http://127.0.0.1:{other.port}/v1"))
    connect(home)

    assert list(chain(pagination, trusted_origins=[f"HTTP://127.0.0.1:{other.port}/"])) == [1, 2]
    assert secrets_of(other) == [["Authorization", "X-Api-Key", "Cookie", "X-Team"]]


@pytest.mark.parametrize("pagination", ["link", "cursor"])
def test_next_page_on_another_server_is_read_if_there_are_no_credentials(
    servers: Callable[..., Pages], connect: Connect, pagination: str
) -> None:
    other = servers(lambda path, query: last(pagination))
    home = servers(lambda path, query: following(pagination, f"http://127.0.0.1:{other.port}/v1"))
    connect(home, login=None, password=None, extra={})

    assert list(chain(pagination, headers={"Accept": "application/json"})) == [1, 2]
    assert secrets_of(other) == [[]]


@pytest.mark.parametrize("address", ["ftp://example.com/x", "http://[::1", "javascript:alert(1)", "http://a:b"])
def test_next_page_without_an_address_is_refused(servers: Callable[..., Pages], connect: Connect, address: str) -> None:
    home = servers(lambda path, query: following("link", address))
    connect(home)

    with pytest.raises(SourceError, match="page 1: names a next page whose address is none"):
        list(chain("link"))


@pytest.mark.parametrize(
    "address", ["ftp://example.com/x", "http://", "file:///etc/passwd", "http://[::1", r"http:\\127.0.0.1"]
)
def test_redirect_to_nowhere_is_refused(servers: Callable[..., Pages], connect: Connect, address: str) -> None:
    home = servers(lambda path, query: (302, {"Location": address}, {}))
    connect(home)

    with pytest.raises(
        SourceError, match=r"page 1: (its address cannot be requested|the server responded with|more than)"
    ):
        list(source())


def test_redirects_that_go_round_end(servers: Callable[..., Pages], connect: Connect) -> None:
    home = servers(lambda path, query: (302, {"Location": path}, {}))
    connect(home, extra={"max_redirects": 5})

    with pytest.raises(SourceError, match="page 1: more than 5 redirects"):
        list(chain("link"))
    assert len(home.asked) == 6


@pytest.mark.parametrize("status", [301, 304])
def test_redirect_without_a_target_is_no_page(servers: Callable[..., Pages], connect: Connect, status: int) -> None:
    home = servers(lambda path, query: (status, {}, b"" if status == 304 else [1]))
    connect(home)

    with pytest.raises(SourceError, match=f"page 1: the server responded with {status}"):
        list(source())


def test_https_connection_trusts_no_http_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_API", json.dumps({"conn_type": "http", "host": "example.com", "schema": "https"}))

    with pytest.raises(PlanError, match=r"HttpPagesSource\.trusted_origins=.*never go over http"):
        list(source(trusted_origins=["http://example.com"]))


def test_ipv6(servers: Callable[..., Pages], connect: Connect) -> None:
    def answer(path: str, query: dict[str, str]) -> Answer:
        if path == "/v1/items":
            return 302, {"Location": f"http://[0:0:0:0:0:0:0:1]:{home.port}/there?page={query['page']}"}, {}
        return items(path, query)

    try:
        home = servers(answer, "::1")
    except OSError:
        pytest.skip("no IPv6 here")
    connect(home, host="http://[::1]")

    assert list(source()) == [1, 2]
    assert all(secrets_of(home))
