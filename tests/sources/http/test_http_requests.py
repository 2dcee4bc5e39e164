"""Requests with a body, credentials that expire, and the styles of some kinds of APIs."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from airflow_parallel_provider import HttpPagesSource, OAuthClientCredentials
from airflow_parallel_provider.errors import PlanError, SourceError
from tests.sources.http.conftest import Serve

pytestmark = pytest.mark.airflow


def source(**options: Any) -> HttpPagesSource:
    return HttpPagesSource("/v1/numbers", **{"conn_id": "api", "readers": 1, **options})


def test_pages_of_a_search_are_asked_for_in_the_body(serve: Serve) -> None:
    pages = serve(lambda path, query: (200, {}, [pages.bodies[-1]["from"]] if pages.bodies[-1]["from"] < 3 else []))
    body = {"filter": {"day": "2026-11-01"}, "sort": ["id"]}

    found = list(
        source(json=body, pagination="offset", page_size=1, page_parameter="from", size_parameter="page.size",
               parameters={"v": 2})
    )  # fmt: skip

    assert found == [0, 1, 2]
    assert pages.bodies[1] == {**body, "from": 1, "page": {"size": 1}}
    assert pages.asked[1] == ("/v1/numbers", {"v": "2"})
    assert body == {"filter": {"day": "2026-11-01"}, "sort": ["id"]}


def graph(nodes: list[int], cursor: str | None, *, more: bool) -> Any:
    return {"data": {"orders": {"nodes": nodes, "pageInfo": {"hasNextPage": more, "endCursor": cursor}}}}


def graphql(**options: Any) -> HttpPagesSource:
    return source(
        pagination="cursor",
        json={"query": "query ($after: String) { orders ... }", "variables": {"first": 2}},
        items="data.orders.nodes",
        page_parameter="variables.after",
        next_cursor="data.orders.pageInfo.endCursor",
        has_more="data.orders.pageInfo.hasNextPage",
        **options,
    )


def test_cursors_of_graphql(serve: Serve) -> None:
    answers = [graph([1, 2], "b", more=True), graph([3], "c", more=False)]
    pages = serve(lambda path, query: (200, {}, answers[len(pages.bodies) - 1]))

    assert list(graphql()) == [1, 2, 3]
    assert [body["variables"] for body in pages.bodies] == [{"first": 2}, {"first": 2, "after": "b"}]


def test_errors_of_graphql_fail_the_run(serve: Serve) -> None:
    serve(lambda path, query: (200, {}, {**graph([1], "b", more=False), "errors": [{"message": "secret"}]}))

    with pytest.raises(SourceError, match=r"page 1: the response has 1 errors$"):
        list(graphql())


def test_request_with_a_body_is_not_redirected(serve: Serve) -> None:
    serve(lambda path, query: (302, {"Location": "/other"}, {}))

    with pytest.raises(SourceError, match="page 1: a request with a body is redirected"):
        list(source(json={}))


@pytest.mark.parametrize(
    ("pagination", "first", "last"),
    [
        ("odata", {"value": [1], "@odata.nextLink": "numbers?$skiptoken=7"}, {"value": [2]}),
        ("json_api", {"data": [1], "links": {"next": "/v1/numbers?page[after]=7"}}, {"data": [2], "links": {}}),
        ("json_api", {"data": [1], "links": {"next": {"href": "?x=7"}}}, {"data": [2], "links": {"next": None}}),
    ],
)
def test_styles(serve: Serve, pagination: Any, first: Any, last: Any) -> None:
    serve(lambda path, query: (200, {}, last if "7" in query.values() else first))

    assert list(source(pagination=pagination)) == [1, 2]


def test_headers_of_a_function_are_made_again_after_a_401(serve: Serve) -> None:
    made: list[str] = []

    def headers() -> dict[str, str]:
        made.append(f"Bearer {len(made)}")
        return {"Authorization": made[-1]}

    def answer(path: str, query: dict[str, str]) -> Any:
        expired = query["page"] == "2" and pages.headers[-1]["Authorization"] == "Bearer 0"
        return (401, {}, {}) if expired else (200, {}, [query["page"]] if query["page"] < "4" else [])

    pages = serve(answer)

    assert list(source(auth=headers)) == ["1", "2", "3"]
    assert made == ["Bearer 0", "Bearer 1"]


def test_headers_that_stay_refused_fail_the_run(serve: Serve) -> None:
    pages = serve(lambda path, query: (401, {}, {}))

    with pytest.raises(SourceError, match="page 1: the server responded with 401 Unauthorized"):
        list(source(auth=lambda: {"X-Key": "k"}))
    assert [query["page"] for _, query in pages.asked].count("1") == 2


@pytest.mark.parametrize("auth", [lambda: 1 / 0, lambda: "token"])
def test_function_that_makes_no_headers_says_so(serve: Serve, auth: Any) -> None:
    serve(lambda path, query: (200, {}, []))

    with pytest.raises(SourceError, match=r"page 1: auth= (failed \(ZeroDivisionError|returned a str, not a dict)"):
        list(source(auth=auth))


@pytest.mark.parametrize("send", ["basic", "body"])
def test_token_of_oauth(serve: Serve, monkeypatch: pytest.MonkeyPatch, send: str) -> None:
    def answer(path: str, query: dict[str, str]) -> Any:
        if path == "/token":
            return 200, {}, {"access_token": f"t{len(pages.bodies)}", "expires_in": "31"}
        return 200, {}, [pages.headers[-1]["Authorization"]] if query["page"] == "1" else []

    pages = serve(answer)
    connection = json.loads(pages.connection) | {"login": "me", "password": "hush"}
    monkeypatch.setenv("AIRFLOW_CONN_API", json.dumps(connection))
    auth = OAuthClientCredentials(
        f"http://127.0.0.1:{pages.port}/token", scope="read", parameters={"audience": "x"}, send=send
    )

    assert list(source(auth=auth)) == ["Bearer t1"]
    secret = {"client_id": "me", "client_secret": "hush"} if send == "body" else {}
    assert pages.bodies == [{"grant_type": "client_credentials", "audience": "x", "scope": "read", **secret}]
    basic = "Basic " + base64.b64encode(b"me:hush").decode()
    assert pages.headers[0].get("Authorization") == (None if send == "body" else basic)
    assert basic not in [each.get("Authorization") for each in pages.headers[1:]]


def test_token_that_is_not_given_names_the_address(serve: Serve) -> None:
    pages = serve(lambda path, query: (403, {}, {"error": "secret"}))
    auth = OAuthClientCredentials(f"http://127.0.0.1:{pages.port}/token")

    with pytest.raises(SourceError, match=r"page 1: no token from http://.*/token: status 403, no access_token$"):
        list(source(auth=auth))


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"json": [1]}, "json"),
        ({"json": {"variables": 7}, "page_parameter": "variables.after"}, "page_parameter"),
        ({"has_more": "more"}, "has_more"),
        ({"pagination": "odata", "next_cursor": "x"}, "next_cursor"),
        ({"auth": "token"}, "auth"),
    ],
)
def test_requests_are_checked(options: dict[str, Any], field: str) -> None:
    with pytest.raises(PlanError, match=rf"HttpPagesSource\.{field}"):
        source(**options)


def test_address_of_tokens_is_checked() -> None:
    with pytest.raises(PlanError, match="token_url='/token': give an address"):
        OAuthClientCredentials("/token")
    with pytest.raises(PlanError, match="send='form'"):
        OAuthClientCredentials("https://a/token", send="form")
