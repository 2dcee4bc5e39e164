# SPDX-License-Identifier: Apache-2.0
"""Lineage of a run for OpenLineage: the tables it read and wrote, their columns, how many rows; once per run."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from airflow_parallel_provider.bridge import _compat

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RUN_FACET: Final = "parallelPipeline"
"""Name of the run's own facet."""
COUNTS: Final = (
    *("items_read", "items_committed", "items_filtered", "items_dead_lettered", "items_skipped", "items_unfinished"),
    *("rows_committed", "chunks_committed", "chunks_skipped"),
)
_CAUSES: Final = 10
_DEADLINE: Final = 3.0
"""Seconds a database may take to list the columns of a table; the OpenLineage provider waits ten for everything."""

log = logging.getLogger(__name__)


def lineage_of(source: Any, sink: Any, outcome: Mapping[str, Any] | None) -> Any:
    """An ``OperatorLineage``; None where the OpenLineage provider is not installed or nothing is known.

    Each table is named once, however many chunks the sink commits.

    :param source: the operator's source; one with ``table`` and ``conn_id`` is an input.
    :param sink: the operator's sink; one with ``table`` and ``conn_id`` is the output, and its table of dead letters
        is a second output where this run has written some. One with ``dataset`` is the output under that name.
    :param outcome: the run's report or last snapshot as a dict, however it ended; None where the run did not start.
    """
    try:
        from airflow.providers.openlineage.extractors import OperatorLineage

        from airflow_parallel_provider.bridge.publishing.lineage_facet import ParallelPipelineRunFacet
    except ImportError:
        return None
    counts = outcome or {}
    inputs = [_input(source)] if _is_table(source) else []
    outputs = _outputs(sink, counts) if _is_table(sink) else _lake_outputs(sink, counts)
    facets = {RUN_FACET: ParallelPipelineRunFacet(**_facet_fields(counts))} if counts else {}
    if not inputs and not outputs and not facets:
        return None
    return OperatorLineage(inputs=inputs, outputs=outputs, run_facets=facets)


def sum_of_runs(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The outcomes of several runs of one task as one outcome; None for none."""
    if not runs:
        return None
    counts = {name: sum(int(each.get(name) or 0) for each in runs) for name in COUNTS}
    failures = [cause for each in runs for cause in each.get("failures") or ()]
    return {**counts, "state": runs[-1].get("state"), "failures": failures}


def _is_table(end: Any) -> bool:
    return isinstance(getattr(end, "table", None), str) and isinstance(getattr(end, "conn_id", None), str)


def _input(source: Any) -> Any:
    from airflow.providers.common.compat.openlineage.facet import Dataset

    return Dataset(*_name_of(source, source.table), facets=_schema(source, reflect=True))


def _outputs(sink: Any, outcome: Mapping[str, Any]) -> list[Any]:
    from airflow.providers.common.compat.openlineage.facet import OutputDataset

    facets = _schema(sink, reflect=bool(outcome.get("rows_committed")))
    rows = _row_count(outcome, "rows_committed")
    outputs = [OutputDataset(*_name_of(sink, sink.table), facets=facets, outputFacets=rows)]
    dead_letters = getattr(sink, "dead_letter_table", None)
    if dead_letters and outcome.get("items_dead_lettered"):
        rows = _row_count(outcome, "items_dead_lettered")
        outputs.append(OutputDataset(*_name_of(sink, dead_letters), outputFacets=rows))
    return outputs


def _lake_outputs(sink: Any, outcome: Mapping[str, Any]) -> list[Any]:
    """The table of a sink that names it itself, with the version that the load is in."""
    from airflow.providers.common.compat.openlineage.facet import OutputDataset
    from openlineage.client.facet_v2 import dataset_version_dataset

    named = getattr(sink, "dataset", None)
    if not isinstance(named, tuple):
        return []
    version = getattr(sink, "published_version", None)
    facets = {}
    if version is not None:
        facets = {"version": dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=str(version))}
    return [OutputDataset(*named, facets=facets, outputFacets=_row_count(outcome, "rows_committed"))]


def _row_count(outcome: Mapping[str, Any], name: str) -> dict[str, Any]:
    from airflow.providers.common.compat.openlineage.facet import OutputStatisticsOutputDatasetFacet

    rows = outcome.get(name)
    return {} if rows is None else {"outputStatistics": OutputStatisticsOutputDatasetFacet(rowCount=int(rows))}


def _name_of(end: Any, table: str) -> tuple[str, str]:
    """Namespace and name of a table, as OpenLineage's naming rules prescribe."""
    try:
        connection = _compat.find_connection(end.conn_id)
        hook = connection.get_hook()
        info = hook.get_openlineage_database_info(connection)
    except Exception:  # the hook does not support lineage: the fields of the connection have to suffice
        log.debug("No lineage from the hook of %s", end.conn_id, exc_info=True)
        info = None
    if info is None:
        return f"airflow://{end.conn_id}", table
    schema = getattr(end, "schema", None) or _default_schema(hook)
    namespace = f"{info.scheme}://{info.authority}" if info.authority else info.scheme
    return namespace, ".".join(part for part in (info.database, schema, table) if part)


def _default_schema(hook: Any) -> str | None:
    try:
        found: str | None = hook.get_openlineage_default_schema()
    except Exception:  # noqa: BLE001 - it may have to query the database
        return None
    return found


def _schema(end: Any, *, reflect: bool) -> dict[str, Any]:
    """The columns that the author has declared; else, with ``reflect``, those that the table has."""
    from airflow.providers.common.compat.openlineage.facet import SchemaDatasetFacet, SchemaDatasetFacetFields

    columns: Any = getattr(end, "declared_columns", None)
    if not columns and reflect:
        columns = _columns_of_table(end)
    if not columns:
        return {}
    fields = [SchemaDatasetFacetFields(name=each.name, type=each.type_name() or None) for each in columns]
    return {"schema": SchemaDatasetFacet(fields=fields)}


def _columns_of_table(end: Any) -> tuple[Any, ...]:
    from airflow_parallel_provider.sql.database import Database, resolved_hook

    try:
        hook = resolved_hook(end.conn_id)
        database = Database(hook, end.conn_id, lock_timeout=_DEADLINE, statement_timeout=_DEADLINE)
        try:
            shape = database.backend.catalog.reflect(database.connection(), end.table, getattr(end, "schema", None))
        finally:
            database.close()
    except Exception:  # lineage never fails a task
        log.debug("The columns of %s cannot be read", end.table, exc_info=True)
        return ()
    names = getattr(end, "columns", None)  # of a source: the columns it reads
    return () if shape is None else tuple(each for each in shape.columns if not names or each.name in names)


def _facet_fields(outcome: Mapping[str, Any]) -> dict[str, Any]:
    failures = [
        {"stage": str(each.get("stage")), "cause": str(each.get("cause"))[:200], "count": int(each.get("count") or 0)}
        for each in list(outcome.get("failures") or ())[:_CAUSES]
    ]
    counts = {name: int(outcome[name]) for name in COUNTS if outcome.get(name) is not None}
    return {"state": str(outcome.get("state")), "counts": counts, "failures": failures}
