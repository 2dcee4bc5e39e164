"""What a pipeline tells OpenLineage: the table it wrote, with its columns and how many rows came, once per run."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.bridge import _compat

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)


def lineage_of(source: Any, sink: Any, summary: Mapping[str, Any] | None) -> Any:
    """An ``OperatorLineage``; None where the OpenLineage provider is not installed or nothing is known.

    :param source: the operator's; a source with ``table`` and ``conn_id`` is an input.
    :param sink: the operator's; a sink with ``table`` and ``conn_id`` is the output.
    :param summary: what the task returns; None where it did not get so far.
    """
    try:
        from airflow.providers.common.compat.openlineage.facet import (
            Dataset,
            OutputDataset,
            OutputStatisticsOutputDatasetFacet,
        )
        from airflow.providers.openlineage.extractors import OperatorLineage
    except ImportError:
        return None
    outputs, inputs = [], []
    if (place := _place(sink)) is not None:
        rows = (summary or {}).get("rows_committed")
        counted = {} if rows is None else {"outputStatistics": OutputStatisticsOutputDatasetFacet(rowCount=int(rows))}
        outputs.append(OutputDataset(*place, facets=_schema(sink), outputFacets=counted))
    if (place := _place(source)) is not None:
        inputs.append(Dataset(*place))
    return OperatorLineage(inputs=inputs, outputs=outputs) if inputs or outputs else None


def _place(end: Any) -> tuple[str, str] | None:
    """Namespace and name of a table, as OpenLineage's naming rules want them; None where it is no table."""
    table, conn_id = getattr(end, "table", None), getattr(end, "conn_id", None)
    if not isinstance(table, str) or not isinstance(conn_id, str):
        return None
    try:
        connection = _compat.find_connection(conn_id)
        hook = connection.get_hook()
        info = hook.get_openlineage_database_info(connection)
    except Exception:  # a hook that knows no lineage: the connection's own fields must do
        log.debug("No lineage from the hook of %s", conn_id, exc_info=True)
        return f"airflow://{conn_id}", table
    if info is None:
        return f"airflow://{conn_id}", table
    schema = getattr(end, "schema", None) or _default_schema(hook)
    namespace = f"{info.scheme}://{info.authority}" if info.authority else info.scheme
    return namespace, ".".join(part for part in (info.database, schema, table) if part)


def _default_schema(hook: Any) -> str | None:
    try:
        found: str | None = hook.get_openlineage_default_schema()
    except Exception:  # noqa: BLE001 - it may have to ask the database
        return None
    return found


def _schema(sink: Any) -> dict[str, Any]:
    """The columns that the author has declared."""
    from airflow.providers.common.compat.openlineage.facet import SchemaDatasetFacet, SchemaDatasetFacetFields

    columns = getattr(sink, "columns", None)
    if not columns:
        return {}
    fields = [SchemaDatasetFacetFields(name=each.name, type=each.spell() or None) for each in columns]
    return {"schema": SchemaDatasetFacet(fields=fields)}
