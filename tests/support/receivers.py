"""Servers on localhost at the other end: a collector of OTLP, a receiver of OpenLineage events, a slow line."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "host", "content-encoding"})


class _Server:
    """Serves on a free port of 127.0.0.1 inside ``with``; afterwards no thread of it is left."""

    def __enter__(self) -> Any:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, headers, answer = outer.answer(self.command, self.path, dict(self.headers), body)
                try:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer)
                except OSError:  # the client has given up
                    self.close_connection = True

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _serve

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, name="test-receiver", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        raise NotImplementedError


@dataclass(frozen=True)
class Point:
    """One value of a metric."""

    name: str
    kind: str
    """``sum``, ``gauge`` or a kind of histogram."""
    value: float
    """Of a histogram the sum."""
    tags: dict[str, Any]


@dataclass(frozen=True)
class Span:
    """One span as it came."""

    name: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    seconds: float
    error: str | None


class OtlpCollector(_Server):
    """Takes metrics and traces by OTLP over HTTP and decodes them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._points: list[Point] = []
        self._spans: list[Span] = []

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        raw = gzip.decompress(body) if headers.get("Content-Encoding") == "gzip" else body
        with self._lock:
            if path == "/v1/metrics":
                self._points += _points(ExportMetricsServiceRequest.FromString(raw))
            elif path == "/v1/traces":
                self._spans += _spans(ExportTraceServiceRequest.FromString(raw))
            else:
                return 404, {}, b""
        return 200, {"Content-Type": "application/x-protobuf"}, b""

    def points(self, prefix: str, **tags: Any) -> list[Point]:
        """All values so far of metrics of this prefix with (at least) these tags, oldest first."""
        with self._lock:
            return [each for each in self._points if each.name.startswith(prefix) and tags.items() <= each.tags.items()]

    def spans(self, prefix: str = "", **attributes: Any) -> list[Span]:
        """All spans so far whose name begins like this, with (at least) these attributes (``__`` stands for a dot)."""
        wanted = {name.replace("__", "."): value for name, value in attributes.items()}.items()
        with self._lock:
            return [each for each in self._spans if each.name.startswith(prefix) and wanted <= each.attributes.items()]


def _points(request: Any) -> Iterator[Point]:
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                kind = metric.WhichOneof("data")
                for point in getattr(metric, kind).data_points:
                    value = point.sum if "histogram" in kind else getattr(point, point.WhichOneof("value"))
                    yield Point(metric.name, kind, value, _attributes(point.attributes))


def _spans(request: Any) -> Iterator[Span]:
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    _attributes(span.attributes),
                    (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                    span.status.message if span.status.code == 2 else None,
                )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in pairs}


class LineageReceiver(_Server):
    """Takes OpenLineage events as the HTTP transport sends them."""

    path = "api/v1/lineage"

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: list[dict[str, Any]] = []

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        raw = gzip.decompress(body) if headers.get("Content-Encoding") == "gzip" else body
        with self._lock:
            self._events.append(json.loads(raw))
        return 200, {}, b""

    def events(self, job: str, kind: str | None = None) -> list[dict[str, Any]]:
        """Events of a job, oldest first; only those of one kind (START, COMPLETE, FAIL) if wanted."""
        with self._lock:
            ours = [each for each in self._events if each["job"]["name"] == job]
        return [each for each in ours if kind in (None, each["eventType"])]

    def jobs(self) -> set[str]:
        """Names of all jobs in the events."""
        with self._lock:
            return {each["job"]["name"] for each in self._events}


class SlowLine(_Server):
    """Stands between the tasks and the API server: passes everything on, but holds the live metrics on request.

    A held request is answered when it is released, or never: the client gives up by itself.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._open = threading.Event()
        self._open.set()
        self._came = threading.Event()
        self.held = 0
        """Requests that have been held so far."""

    def __enter__(self) -> Any:
        # trust_env off: no proxy of the environment may be used for 127.0.0.1.
        self._client = httpx.Client(base_url=self._target, trust_env=False, timeout=60)
        return super().__enter__()

    def __exit__(self, *exception: object) -> None:
        self._open.set()
        super().__exit__(*exception)
        self._client.close()

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Inside the block, metrics get no answer."""
        self._came.clear()
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    def wait_for_one(self, seconds: float) -> bool:
        """Wait until a write of metrics is held."""
        return self._came.wait(seconds)

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        if method != "GET" and "pipeline_metrics" in path and not self._open.is_set():
            self.held += 1
            self._came.set()
            self._open.wait()
        passed = {name: value for name, value in headers.items() if name.lower() not in HOP_BY_HOP}
        answer = self._client.request(method, path, headers=passed, content=body)
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
        return answer.status_code, kept, answer.content
