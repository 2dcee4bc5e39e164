"""What a pipeline tells OpenLineage: the tables it read and wrote, their columns, how many rows; once per run."""

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
"""Seconds a database may take to tell the columns of a table; the OpenLineage provider waits ten for everything."""

log = logging.getLogger(__name__)


def lineage_of(source: Any, sink: Any, figures: Mapping[str, Any] | None) -> Any:
    """An ``OperatorLineage``; None where the OpenLineage provider is not installed or nothing is known.

    One statement for each table, whatever the writer does chunk by chunk.

    :param source: the operator's; a source with ``table`` and ``conn_id`` is an input.
    :param sink: the operator's; a sink with ``table`` and ``conn_id`` is the output, and its table of dead letters
        another one where this run has written some.
    :param figures: the run's, as of its end, however it ended; None where it did not get so far.
    """
    try:
        from airflow.providers.openlineage.extractors import OperatorLineage

        from airflow_parallel_provider.bridge.lineage_facet import ParallelPipelineRunFacet
    except ImportError:
        return None
    told = figures or {}
    inputs = [_input(source)] if _is_table(source) else []
    outputs = _outputs(sink, told) if _is_table(sink) else []
    facets = {RUN_FACET: ParallelPipelineRunFacet(**_account(told))} if told else {}
    if not inputs and not outputs and not facets:
        return None
    return OperatorLineage(inputs=inputs, outputs=outputs, run_facets=facets)


def added_up(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The figures of several runs of one task as those of one; None for none."""
    if not runs:
        return None
    counts = {name: sum(int(each.get(name) or 0) for each in runs) for name in COUNTS}
    failures = [cause for each in runs for cause in each.get("failures") or ()]
    return {**counts, "state": runs[-1].get("state"), "failures": failures}


def _is_table(end: Any) -> bool:
    return isinstance(getattr(end, "table", None), str) and isinstance(getattr(end, "conn_id", None), str)


def _input(source: Any) -> Any:
    from airflow.providers.common.compat.openlineage.facet import Dataset

    return Dataset(*_place(source, source.table), facets=_schema(source, look=True))


def _outputs(sink: Any, told: Mapping[str, Any]) -> list[Any]:
    from airflow.providers.common.compat.openlineage.facet import OutputDataset

    facets = _schema(sink, look=bool(told.get("rows_committed")))
    outputs = [OutputDataset(*_place(sink, sink.table), facets=facets, outputFacets=_rows(told, "rows_committed"))]
    letters = getattr(sink, "dead_letter_table", None)
    if letters and told.get("items_dead_lettered"):
        outputs.append(OutputDataset(*_place(sink, letters), outputFacets=_rows(told, "items_dead_lettered")))
    return outputs


def _rows(told: Mapping[str, Any], name: str) -> dict[str, Any]:
    from airflow.providers.common.compat.openlineage.facet import OutputStatisticsOutputDatasetFacet

    rows = told.get(name)
    return {} if rows is None else {"outputStatistics": OutputStatisticsOutputDatasetFacet(rowCount=int(rows))}


def _place(end: Any, table: str) -> tuple[str, str]:
    """Namespace and name of a table, as OpenLineage's naming rules want them."""
    try:
        connection = _compat.find_connection(end.conn_id)
        hook = connection.get_hook()
        info = hook.get_openlineage_database_info(connection)
    except Exception:  # a hook that knows no lineage: the connection's own fields must do
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
    except Exception:  # noqa: BLE001 - it may have to ask the database
        return None
    return found


def _schema(end: Any, *, look: bool) -> dict[str, Any]:
    """The columns that the author has declared; else, with ``look``, those that the table has."""
    from airflow.providers.common.compat.openlineage.facet import SchemaDatasetFacet, SchemaDatasetFacetFields

    columns: Any = getattr(end, "declared_columns", None)
    if not columns and look:
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
    except Exception:  # lineage is not the work
        log.debug("The columns of %s cannot be had", end.table, exc_info=True)
        return ()
    wanted = getattr(end, "columns", None)  # of a source: the names it reads
    return () if shape is None else tuple(each for each in shape.columns if not wanted or each.name in wanted)


def _account(told: Mapping[str, Any]) -> dict[str, Any]:
    failures = [
        {"stage": str(each.get("stage")), "cause": str(each.get("cause"))[:200], "count": int(each.get("count") or 0)}
        for each in list(told.get("failures") or ())[:_CAUSES]
    ]
    counts = {name: int(told[name]) for name in COUNTS if told.get(name) is not None}
    return {"state": str(told.get("state")), "counts": counts, "failures": failures}
