"""A REST catalogue of Iceberg tables in this process: what the protocol asks for, over a SQL catalogue.

It answers as the specification says: a table that is staged exists from its first commit on, a commit whose
requirements do not hold is 409, what does not exist is 404.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@contextmanager
def rest_catalog(catalog: Any) -> Iterator[tuple[str, list[str]]]:
    """The address of a server that serves a catalogue, and the requests that it has had."""
    requests: list[str] = []
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # head and body in one packet

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.partition("?")[0].removeprefix("/v1/").split("/")
            requests.append(f"{self.command} {'/'.join(path)}")
            with lock:
                status, found = _answer(catalog, self.command, path, body)
            data = found.encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_POST = do_HEAD = answer  # the library's names

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(catalog: Any, method: str, path: list[str], body: bytes) -> tuple[int, str]:
    from pyiceberg.exceptions import (
        CommitFailedException,
        NamespaceAlreadyExistsError,
        NoSuchNamespaceError,
        NoSuchTableError,
        TableAlreadyExistsError,
    )

    try:
        return 200, _found(catalog, method, path, body)
    except (NoSuchTableError, NoSuchNamespaceError) as error:
        return 404, _error(404, error)
    except (CommitFailedException, TableAlreadyExistsError, NamespaceAlreadyExistsError) as error:
        return 409, _error(409, error)


def _found(catalog: Any, method: str, path: list[str], body: bytes) -> str:
    from pyiceberg.catalog.rest import CreateTableRequest, TableResponse
    from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
    from pyiceberg.table import CommitTableRequest

    if path == ["config"]:
        return json.dumps({"defaults": {}, "overrides": {}})
    if path == ["namespaces"]:
        catalog.create_namespace(tuple(json.loads(body)["namespace"]))
        return body.decode()
    namespace = path[1]
    if len(path) == 2:
        if not catalog.namespace_exists(namespace):
            raise NoSuchNamespaceError(namespace)
        return json.dumps({"namespace": [namespace], "properties": {}})
    if len(path) == 3:
        asked = CreateTableRequest.model_validate_json(body)
        make = catalog.create_table_transaction if asked.stage_create else catalog.create_table
        made = make((namespace, asked.name), asked.table_schema, location=asked.location)
        metadata = made.table_metadata if asked.stage_create else made.metadata
        return TableResponse(metadata=metadata, **{"metadata-location": None}).model_dump_json()
    name = (namespace, path[3])
    if method == "POST":
        commit = CommitTableRequest.model_validate_json(body)
        try:
            table = catalog.load_table(name)
        except NoSuchTableError:
            location = next(each.location for each in commit.updates if each.action == "set-location")
            schema = next(each.schema_ for each in commit.updates if each.action == "add-schema")
            table = catalog.create_table_transaction(name, schema, location=location)._table
        done = catalog.commit_table(table, commit.requirements, commit.updates)
        return str(done.model_dump_json())
    table = catalog.load_table(name)
    return TableResponse(metadata=table.metadata, **{"metadata-location": table.metadata_location}).model_dump_json()


def _error(code: int, error: Exception) -> str:
    return json.dumps({"error": {"message": str(error), "type": type(error).__name__, "code": code}})
