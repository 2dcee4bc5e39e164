# SPDX-License-Identifier: Apache-2.0
"""The options of ``deltalake`` for a storage, from the fsspec file system of an Airflow connection."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from airflow_parallel_provider.sinks.files.store import FileStore


def table_uri(store: FileStore, path: str) -> str:
    """The address of a table's folder for ``deltalake``."""
    if store.is_local:
        return store.folder
    scheme = path.partition("://")[0]
    return f"{'s3' if scheme == 's3a' else scheme}://{store.folder}"


def storage_options(store: FileStore) -> dict[str, str]:
    """What ``deltalake`` needs to reach a folder: for S3 the endpoint, region and credentials of the connection.

    Google's and Azure's libraries find credentials by themselves where the machine has them; of a connection for Azure
    its account and key are taken. Everything else is the author's to give.
    """
    kinds = {store.system.protocol} if isinstance(store.system.protocol, str) else set(store.system.protocol)
    if kinds & {"s3", "s3a"}:
        return _of_s3(store.system)
    if kinds & {"abfs", "abfss", "az", "adl"}:
        names = ("account_name", "account_key", "sas_token", "client_id", "client_secret", "tenant_id")
        found = {name: getattr(store.system, name, None) for name in names}
        return {f"azure_storage_{name}": str(value) for name, value in found.items() if value}
    return {}


def _of_s3(system: Any) -> dict[str, str]:
    client: Mapping[str, Any] = getattr(system, "client_kwargs", None) or {}
    endpoint = getattr(system, "endpoint_url", None) or client.get("endpoint_url")
    region = client.get("region_name")
    keys = (getattr(system, "key", None), getattr(system, "secret", None), getattr(system, "token", None))
    session = getattr(system, "session", None)
    if session is not None:
        region = region or session.get_config_variable("region")
        if not keys[0]:
            keys = asyncio.run(_keys_of(session))
    names = ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    options = {name: str(value) for name, value in zip(names, (endpoint, region, *keys), strict=True) if value}
    if str(endpoint or "").startswith("http://"):
        options["AWS_ALLOW_HTTP"] = "true"
    if getattr(system, "anon", False):
        options["AWS_SKIP_SIGNATURE"] = "true"
    return options


async def _keys_of(session: Any) -> tuple[str | None, str | None, str | None]:
    """The session's keys; those of a role are fetched again when they have expired."""
    found = await session.get_credentials()
    if found is None:
        return None, None, None
    frozen = await found.get_frozen_credentials()
    return frozen.access_key, frozen.secret_key, frozen.token
