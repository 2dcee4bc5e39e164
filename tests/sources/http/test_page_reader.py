"""What a response means: charsets, cut-off bodies, sizes, numbers."""

from __future__ import annotations

import codecs
import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from airflow_parallel_provider import HttpPagesSource
from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.values.json_text import JsonNumber
from tests.sources.http.conftest import Serve
from tests.support.pages import Answer

pytestmark = pytest.mark.airflow

TEXT = '[{"name": "Zoë €"}]'
ROWS = [{"name": "Zoë €"}]


def source(**options: Any) -> HttpPagesSource:
    return HttpPagesSource("/v1", **{"conn_id": "api", "readers": 1, **options})


def once(answer: Answer) -> Callable[[str, dict[str, str]], Answer]:
    """The answer as page 1; no further one."""
    return lambda path, query: answer if query["page"] == "1" else (404, {}, {})


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "application/vnd.api+json",
        "application/octet-stream",
        "text/plain",
        "text/html",
        "text/json; charset=utf-8",
        "application/json; charset=nobody-knows-it",
        "application/json; charset=zlib",
        None,
    ],
)
def test_json_is_utf8_whatever_its_type(serve: Serve, kind: str | None) -> None:
    serve(once((200, {"Content-Type": kind} if kind else {}, TEXT.encode())))

    assert list(source()) == ROWS


@pytest.mark.parametrize(
    ("charset", "body"),
    [
        ("latin-1", '[{"name": "Zoë"}]'.encode("latin-1")),
        ("cp1252", TEXT.encode("cp1252")),
        ('"UTF-16"', TEXT.encode("utf-16")),
        ("utf-16", TEXT.encode("utf-16-be")),
        ("utf-8", TEXT.encode("utf-8-sig")),
        ("latin-1", TEXT.encode("utf-8-sig")),
        ("gb18030", f"\ufeff{TEXT}".encode("gb18030")),
        ("utf-8", TEXT.encode("utf-16-le")),
        ("", TEXT.encode("utf-32-be")),
        ("", codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le")),
    ],
)
def test_charset_and_marks(serve: Serve, charset: str, body: bytes) -> None:
    serve(once((200, {"Content-Type": f"application/json; charset={charset}"}, body)))

    assert [row["name"].removesuffix(" €") for row in source()] == ["Zoë"]


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("", gzip.compress),
        ("deflate, gzip", lambda body: gzip.compress(zlib.compress(body))),
    ],
)
def test_packed_responses(serve: Serve, encoding: str, pack: Callable[[bytes], bytes]) -> None:
    pages = serve(once((200, {"Content-Encoding": encoding}, pack(TEXT.encode("utf-8-sig")))))

    assert list(source()) == ROWS
    assert pages.headers[0]["Accept-Encoding"] == "gzip, deflate"


def test_encoding_that_was_not_asked_for_is_named(serve: Serve) -> None:
    serve(once((200, {"Content-Encoding": "br"}, b"...")))

    with pytest.raises(
        SourceError, match="page 1: it is packed with 'br', not with gzip, deflate: leave Accept-Encoding"
    ):
        list(source())


PACKED = gzip.compress(TEXT.encode() * 100)

CUT = {
    "length": ({"Content-Length": "400"}, TEXT.encode()),
    "chunked": ({"Transfer-Encoding": "chunked"}, b"400\r\n" + TEXT.encode()),
    "between chunks": ({"Transfer-Encoding": "chunked"}, b"%x\r\n%s\r\n" % (len(TEXT.encode()), TEXT.encode())),
    "end of the connection": ({"Connection": "close"}, TEXT.encode()[:-2]),
    "within a text": ({"Connection": "close"}, TEXT.encode()[:-8]),
    "nothing": ({"Connection": "close"}, b""),
    "gzip": ({"Content-Encoding": "gzip"}, PACKED[: len(PACKED) // 2]),
    "gzip without a length": ({"Content-Encoding": "gzip", "Connection": "close"}, PACKED[: len(PACKED) // 2]),
    "deflate": ({"Content-Encoding": "deflate"}, zlib.compress(TEXT.encode())[:-1]),
    "file of gzip": ({"Content-Type": "application/gzip"}, PACKED[: len(PACKED) // 2]),
}


@pytest.mark.parametrize("cut", CUT)
def test_cut_off_response_is_requested_again(serve: Serve, cut: str) -> None:
    headers, body = CUT[cut]
    answers: list[Answer] = [(200, headers, body), (200, {}, TEXT.encode())]

    def answer(path: str, query: dict[str, str]) -> Answer:
        return answers.pop(0) if query["page"] == "1" else (404, {}, {})

    pages = serve(answer)

    assert list(source()) == ROWS
    assert [query["page"] for _, query in pages.asked].count("1") == 2


@pytest.mark.parametrize("cut", CUT)
def test_response_that_stays_cut_off_fails_with_its_page(serve: Serve, cut: str) -> None:
    headers, body = CUT[cut]
    serve(lambda path, query: (200, {}, ROWS) if query["page"] == "1" else (200, headers, body))

    with pytest.raises(SourceError, match=r"page 2: still (the response|its packed content) .* after 3 attempts"):
        list(source(attempts=3))


def test_page_that_unpacks_to_too_much_is_refused(serve: Serve) -> None:
    pages = serve(once((200, {"Content-Encoding": "gzip"}, gzip.compress(b"[" + b" " * 5_000_000 + b"]"))))

    wanted = r"page 1: it unpacks to more than largest_page=2,000,000 bytes: .*largest_page= more bytes"
    with pytest.raises(SourceError, match=wanted):
        list(source(largest_page=2_000_000))
    assert [query["page"] for _, query in pages.asked].count("1") == 1
    assert list(source(largest_page=6_000_000)) == []


def test_error_of_any_size_is_left_unread(serve: Serve) -> None:
    serve(lambda path, query: (400, {"Content-Encoding": "gzip"}, gzip.compress(bytes(50_000_000))))

    with pytest.raises(SourceError, match="page 1: the server responded with 400 Bad Request"):
        list(source())


def test_numbers_are_exact(serve: Serve) -> None:
    texts = ["12345678901234567.89", "0.1234567890123456789", "1e400", "1E5", "-0.0", "0.1e1", "1.10"]
    serve(once((200, {}, f"[{', '.join(texts)}]".encode())))

    found = list(source())

    assert [str(each) for each in found] == [*texts[:3], "100000.0", "-0.0", "1.0", "1.1"]
    assert [type(each) for each in found] == [JsonNumber] * 3 + [float] * 4


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b'[{"id": 1},\n {"id": 2, "id": 3}]', r"page 1: at \[1\]: an object has the key 'id' twice"),
        (
            b'[{"id": 1},\n {"id": ' + b"1" * 5_000 + b"}]",
            r"page 1: at \[1\]\.id: a whole number has more than 4,300 digits",
        ),
        (b"[" * 100_000 + b"]" * 100_000, "page 1: its JSON is nested too deeply"),
        (b"[1,\n 2,,]", r"page 1: the response is not JSON \(no type\): Expecting value in line 2, column 4"),
        (b'["\xff\xfa"]', r"page 1: the response is not JSON \(no type\): byte 0xff at 2 is not utf-8"),
        (b"", r"page 1: the response is not JSON \(no type\): Expecting value in line 1, column 1"),
        (b"[1e99999999999999999999]", r"page 1: at \[0\]: a number has an exponent that no number type holds"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_page(serve: Serve, body: bytes, complaint: str) -> None:
    serve(once((200, {}, body)))

    with pytest.raises(SourceError, match=complaint):
        list(source())


def test_words_of_the_server_are_not_shown(serve: Serve) -> None:
    """They may be anything: texts that change a terminal, or a page of them."""
    serve(lambda path, query: (418, {}, {}))

    with pytest.raises(SourceError, match=r"responded with 418 I'm a Teapot$"):
        list(source())


def test_type_of_a_response_is_shown_as_plain_text(serve: Serve) -> None:
    serve(lambda path, query: (200, {"Content-Type": "\x1b[31mred" + "x" * 1_000}, b"?"))

    with pytest.raises(SourceError, match=r"the response is not JSON \(\?\[31mredx{52}\)"):
        list(source())


@pytest.mark.parametrize("chunk", [b"-5", b"zz", b"", b"f" * 30])
def test_chunk_that_is_none_is_a_broken_response(serve: Serve, chunk: bytes) -> None:
    serve(lambda path, query: (200, {"Transfer-Encoding": "chunked"}, chunk + b"\r\n[1]\r\n0\r\n\r\n"))

    with pytest.raises(SourceError, match=r"page 1: still the response broke off .* after 2 attempts"):
        list(source(attempts=2))


def test_cause_of_a_failed_connection_is_named(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_API", json.dumps({"conn_type": "http", "host": "127.0.0.1", "port": 9}))

    with pytest.raises(SourceError, match=r"page 1: still ConnectionError \(ConnectionRefusedError\) after 2 attempts"):
        list(source(attempts=2))


def test_chain_that_returns_to_its_first_page_is_refused(serve: Serve) -> None:
    def answer(path: str, query: dict[str, str]) -> Answer:
        following = {"2": "/v1"}.get(query.get("page", ""), "/v1?page=2")
        return 200, {"Link": f'<{following}>; rel="next"'}, [1]

    serve(answer)

    with pytest.raises(SourceError, match="page 2 names a next page that has already been read"):
        list(source(pagination="link"))


def test_all_pages_come_over_one_connection(serve: Serve) -> None:
    """Also after redirects, errors and packed pages."""
    asked: list[str] = []

    def answer(path: str, query: dict[str, str]) -> Answer:
        asked.append(query["page"])
        if path == "/v1":
            return 302, {"Location": f"/there?page={query['page']}"}, b"x" * 1000
        if asked.count(query["page"]) == 2 and query["page"] == "2":
            return 503, {}, b"x" * 1000
        if query["page"] == "4":
            return 404, {}, {}
        return 200, {"Content-Encoding": "gzip"}, gzip.compress(f"[{query['page']}]".encode())

    pages = serve(answer)

    assert list(source()) == [1, 2, 3]
    assert len(pages.clients) == 1
