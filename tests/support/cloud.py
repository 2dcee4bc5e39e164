"""Cloud services on this machine, for real client libraries: moto for AWS, an emulator for Google's storage."""

from __future__ import annotations

import atexit
import json
import logging
import os
from functools import cache, partial
from http.server import ThreadingHTTPServer
from threading import Thread
from time import sleep
from typing import Any
from uuid import uuid4

# gcsfs would ask a second service, by gRPC, whether a bucket has folders of its own; the emulator does not have it.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"

ACCESS = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "eu-central-1"}


@cache
def aws_address() -> str:
    """Where moto serves, in threads of this process; started when first asked for."""
    from moto.server import ThreadedMotoServer

    _answer_empty_pulls_soon()
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line for every request
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    atexit.register(server.stop)
    host, port = server.get_host_and_port()
    return f"http://{host}:{port}"


def _answer_empty_pulls_soon() -> None:
    """SQS waits whole seconds for a first message, and may answer before they are over: ours then does after 0.2.

    Between two looks moto waits for a message to be sent, a second long, but sees one that comes again only by looking;
    and it looks without any pause as long as those that are there may not be given out.
    """
    from moto.sqs.models import Queue, SQSBackend

    receive = SQSBackend.receive_message

    def receive_soon(self: Any, name: str, count: int, seconds: float, *others: Any, **named: Any) -> Any:
        return receive(self, name, count, min(seconds, 0.2), *others, **named)  # type: ignore[arg-type]

    SQSBackend.receive_message = receive_soon  # type: ignore[method-assign, assignment]
    Queue.wait_for_messages = lambda self, timeout: sleep(0.02)  # type: ignore[method-assign]


def let_messages_come_again(url: str) -> None:
    """As if all that hides messages of an SQS queue had run out, so that no test has to wait for it."""
    from moto.backends import get_backend

    account, name = url.split("/")[-2:]
    for message in get_backend("sqs")[account][ACCESS["region_name"]].queues[name]._messages:
        message.visible_at = 0.0


def aws_client(service: str) -> Any:
    """A boto3 client of it."""
    import boto3

    return boto3.client(service, endpoint_url=aws_address(), **ACCESS)


def aws_connection() -> dict[str, Any]:
    """An Airflow connection to it."""
    return {
        "conn_type": "aws",
        "login": ACCESS["aws_access_key_id"],
        "password": ACCESS["aws_secret_access_key"],
        "extra": {"endpoint_url": aws_address(), "region_name": ACCESS["region_name"]},
    }


@cache
def google_storage_address() -> str:
    """Where the emulator of Google's storage serves, in threads of this process; started when first asked for."""
    from gcp_storage_emulator.server import RequestHandler
    from gcp_storage_emulator.storage import Storage

    logging.getLogger("gcp_storage_emulator").setLevel(logging.WARNING)
    # Its own server answers one request after the other, and waits for a client that keeps its connection open.
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(RequestHandler, Storage(use_memory_fs=True)))
    Thread(target=server.serve_forever, daemon=True).start()
    atexit.register(server.shutdown)
    host, port = server.server_address[:2]
    return f"http://{host!s}:{port}"


def as_variables(**connections: Any) -> dict[str, str]:
    """Environment variables that tell Airflow of connections."""
    return {f"AIRFLOW_CONN_{conn_id.upper()}": json.dumps(parts) for conn_id, parts in connections.items()}


class Bucket:
    """A bucket of an object store, made for one test, as its owner sees it: not through Airflow or fsspec."""

    scheme: str

    def __init__(self) -> None:
        self.name = f"parallel-tests-{uuid4().hex[:12]}"

    @property
    def connection(self) -> dict[str, Any]:
        """The Airflow connection to its store."""
        raise NotImplementedError

    def url(self, path: str = "") -> str:
        """As ``ObjectStoragePath`` takes it."""
        return f"{self.scheme}://{self.name}/{path}"

    def put(self, name: str, content: bytes) -> None:
        """Write an object, in one request."""
        raise NotImplementedError

    def get(self, name: str) -> bytes:
        """Read an object."""
        raise NotImplementedError

    def remove(self, name: str) -> None:
        """Delete an object."""
        raise NotImplementedError

    def names(self) -> list[str]:
        """Names of all objects, sorted."""
        raise NotImplementedError

    def buckets(self) -> list[str]:
        """Names of all buckets of the store."""
        raise NotImplementedError


class S3Bucket(Bucket):
    """Keeps every version of every object, so that a test sees what was written how often."""

    scheme = "s3"

    def __init__(self) -> None:
        super().__init__()
        self.client = aws_client("s3")
        place = {"LocationConstraint": ACCESS["region_name"]}
        self.client.create_bucket(Bucket=self.name, CreateBucketConfiguration=place)
        self.client.put_bucket_versioning(Bucket=self.name, VersioningConfiguration={"Status": "Enabled"})

    @property
    def connection(self) -> dict[str, Any]:
        return aws_connection()

    def put(self, name: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=name, Body=content)

    def get(self, name: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=self.name, Key=name)["Body"].read()
        return content

    def remove(self, name: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=name)

    def names(self) -> list[str]:
        return sorted(each["Key"] for each in self.client.list_objects_v2(Bucket=self.name).get("Contents", ()))

    def buckets(self) -> list[str]:
        return [each["Name"] for each in self.client.list_buckets()["Buckets"]]

    def versions(self, name: str) -> list[str]:
        """ETags of all that was ever written under a name; one with a ``-`` was written in several requests."""
        found = self.client.list_object_versions(Bucket=self.name, Prefix=name).get("Versions", ())
        return [each["ETag"].strip('"') for each in found]


class GoogleBucket(Bucket):
    """On the emulator."""

    scheme = "gs"

    def __init__(self) -> None:
        super().__init__()
        from google.auth.credentials import AnonymousCredentials
        from google.cloud.storage import Client

        options = {"api_endpoint": google_storage_address()}
        self.client = Client(project="shop", credentials=AnonymousCredentials(), client_options=options)
        self.bucket = self.client.create_bucket(self.name)

    @property
    def connection(self) -> dict[str, Any]:
        extra = {"is_anonymous": True, "project": "shop", "gcs.endpoint": google_storage_address()}
        return {"conn_type": "google_cloud_platform", "extra": extra}

    def put(self, name: str, content: bytes) -> None:
        self.bucket.blob(name).upload_from_string(content)

    def get(self, name: str) -> bytes:
        content: bytes = self.bucket.blob(name).download_as_bytes()
        return content

    def remove(self, name: str) -> None:
        self.bucket.blob(name).delete()

    def names(self) -> list[str]:
        return sorted(each.name for each in self.client.list_blobs(self.name))

    def buckets(self) -> list[str]:
        return [each.name for each in self.client.list_buckets()]


BUCKETS = {"s3": S3Bucket, "gcs": GoogleBucket}
