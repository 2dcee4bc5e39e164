# SPDX-License-Identifier: Apache-2.0
"""Catalogues of Iceberg tables: their properties, of what an author declares and of an Airflow connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.connections import get_connection
from airflow_parallel_provider.errors import PlanError
from airflow_parallel_provider.sinks.lakes.publisher import brief

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

FIELD = "SinkIceberg.catalog"
_SQL = {"postgres": "postgresql+psycopg2", "sqlite": "sqlite"}
"""Kinds of Airflow connections to databases, and what SQLAlchemy calls them."""
_PROPERTIES = frozenset({"name", "warehouse", "init_catalog_tables", "py-io-impl"})
"""Properties of a catalogue without a dot in their names."""
_TRIES = 3


def open_catalog(given: str | Mapping[str, str], conn_id: str | None) -> Catalog:
    """A catalogue. Main thread only: it may ask Airflow for the connection.

    :param given: its name in the settings of ``pyiceberg``, or its properties, with ``name`` among them.
    :raises PlanError: if there is no such connection, or the catalogue cannot be opened.
    """
    from pyiceberg.catalog import load_catalog
    from sqlalchemy.exc import SQLAlchemyError

    properties = {"name": given} if isinstance(given, str) else dict(given)
    if conn_id is not None:
        properties = with_connection(properties, get_connection(conn_id, "SinkIceberg.conn_id"))
    name = properties.pop("name", "default")
    for tries_left in reversed(range(_TRIES)):
        try:
            return load_catalog(name, **properties)
        except SQLAlchemyError as error:  # another attempt may create the catalogue's tables at this moment
            if not tries_left:
                raise _not_opened(name, error) from error
        except Exception as error:
            raise _not_opened(name, error) from error
    raise AssertionError


def _not_opened(name: str, error: Exception) -> PlanError:
    # Not the whole text: that of a database names the address with its password.
    text = type(error).__name__ if "://" in str(error) else brief(error)
    return PlanError(FIELD, name, f"the catalogue cannot be opened ({text})")


def with_connection(given: Mapping[str, str], connection: Any) -> dict[str, str]:
    """Properties of a catalogue, with those of an Airflow connection.

    The connection has secrets, so it has the addresses, too: what the author adds may not send them elsewhere.

    :raises PlanError: if the author's properties name an address, or what the connection has.
    """
    found = _of_database(connection) if connection.conn_type in _SQL else _of_rest(connection)
    for name in given:
        if _is_address(name) or name in found:
            cure = (
                f"the connection {connection.conn_id!r} has secrets, which go only where it says itself: put {name!r} "
                "into its extra"
            )
            raise PlanError(FIELD, name, cure)
    return {**found, **given}


def _is_address(name: str) -> bool:
    """Whether a property says where something is sent, or who sends it."""
    last = name.rpartition(".")[2]
    return last in {"uri", "endpoint", "signer"} or last.endswith(("-uri", "-impl", "-url", "-endpoint"))


def _of_database(connection: Any) -> dict[str, str]:
    """The extra of such a connection has settings of the database's driver, and may have properties of a catalogue."""
    from sqlalchemy.engine import URL

    extra = _texts_of(connection)
    properties = {name: value for name, value in extra.items() if "." in name or name in _PROPERTIES}
    driver = _SQL[connection.conn_type]
    if driver == "sqlite":
        url = URL.create(driver, database=connection.host or connection.schema)
    else:
        url = URL.create(
            driver,
            username=connection.login,
            password=connection.password,
            host=connection.host,
            port=connection.port,
            database=connection.schema,
            query={name: value for name, value in extra.items() if name not in properties},
        )
    return {"type": "sql", "uri": url.render_as_string(hide_password=False), **properties}


def _of_rest(connection: Any) -> dict[str, str]:
    """As Airflow's own provider for Iceberg reads a connection."""
    found = {}
    if connection.host:
        port = f":{connection.port}" if connection.port else ""
        scheme = "" if "://" in connection.host else f"{connection.schema or 'https'}://"
        found["uri"] = f"{scheme}{connection.host}{port}"
    if connection.login and connection.password:
        found["credential"] = f"{connection.login}:{connection.password}"
    return {**found, **_texts_of(connection)}


def _texts_of(connection: Any) -> dict[str, str]:
    return {name: value for name, value in connection.extra_dejson.items() if isinstance(value, str)}
