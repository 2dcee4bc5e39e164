"""Operators for the common jobs. Each one only declares a pipeline; the engine, and what it promises, is the same."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Literal

from airflow_parallel_provider.engine.retry import Retry
from airflow_parallel_provider.engine.stage import Stage
from airflow_parallel_provider.errors import PlanError
from airflow_parallel_provider.operators.parallel_pipeline import ParallelPipelineOperator
from airflow_parallel_provider.sources.checks import check_choice
from airflow_parallel_provider.sources.files import FilesSource, as_files
from airflow_parallel_provider.sources.rows_of_file import FORMATS, csv_reader, read_rows
from airflow_parallel_provider.sources.sql import SqlSource

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_parallel_provider.engine.sink import Sink
    from airflow_parallel_provider.engine.stage import Kind, Template, Workers


class FilesToTableOperator(ParallelPipelineOperator):
    """Files of any storage into a table, each file's rows exactly once.

    ::

        FilesToTableOperator(
            task_id="load_orders",
            files=FilesSource("s3://raw/orders/{{ ds }}/*.csv.gz", conn_id="aws"),
            sink=SinkTable("orders", conn_id="warehouse", primary_key=["id"]),
            transform=to_types,
        )

    :param files: a path with a pattern, or a ``FilesSource`` whose items are files. (templated)
    :param sink: a ``SinkTable``, or any other sink. (templated)
    :param format: ``"csv"``, ``"jsonl"``, ``"json"``, ``"parquet"``, or ``"auto"``: by each file's name, of which
        ``.gz`` and the like are left aside. Rows of CSV are dicts of texts; those of Parquet are Arrow tables.
    :param transform: a function of one row that returns a row, ``DROP``, or yields any number; a ``Stage`` where it
        wants more than threads. None: rows are taken as they are.
    :param encoding: of text files.
    :param csv_options: as ``csv.DictReader`` takes them.
    :param workers: files that are read at a time. (templated)
    :param chunk_size: files per transaction. (templated)
    :param kwargs: everything else that :class:`ParallelPipelineOperator` takes but ``source`` and ``stages``.
    :raises PlanError: when the DAG is parsed, for anything that can be seen then.

    Known limitation: the rows of ``chunk_size`` files are in memory at once. For single files of many gigabytes take
    ``FilesSource(..., items="line")`` or ``items="row_group"`` as the source of a :class:`ParallelPipelineOperator`.
    """

    def __init__(
        self,
        *,
        files: str | FilesSource,
        sink: Sink | Callable[[list[Any]], object],
        format: Literal["auto", "csv", "jsonl", "json", "parquet"] = "auto",  # noqa: A002 - everybody calls it that
        transform: Callable[[Any], Any] | Stage | None = None,
        encoding: str = "utf-8",
        csv_options: Mapping[str, Any] | None = None,
        workers: Workers | Template = "auto",
        chunk_size: int | str = 1,
        **kwargs: Any,
    ) -> None:
        source = as_files(files)
        if source.items != "file":
            raise PlanError("files", source, 'leave out items= (or write items="file"): this operator reads the files')
        check_choice("format", format, FORMATS)
        options = None if csv_options is None else _checked_csv_options(csv_options)
        read = functools.partial(read_rows, format=format, encoding=encoding, csv_options=options)
        stages = [Stage(read, name="read", workers=workers), *_transforming(transform)]
        super().__init__(source=source, stages=stages, sink=sink, chunk_size=chunk_size, **kwargs)


class TableToTableOperator(ParallelPipelineOperator):
    """The rows of a table into another one, in any two databases, each row exactly once.

    ::

        TableToTableOperator(
            task_id="copy_orders",
            source=SqlSource("orders", conn_id="shop", key="id"),
            sink=SinkTable("orders", conn_id="warehouse", write_disposition="merge", primary_key=["id"]),
        )

    :param source: a ``SqlSource``. (templated)
    :param sink: a ``SinkTable``, or any other sink. (templated)
    :param transform: as for :class:`FilesToTableOperator`.
    :param chunk_size: rows per transaction. (templated)
    :param kwargs: everything else that :class:`ParallelPipelineOperator` takes but ``stages``.
    :raises PlanError: when the DAG is parsed, for anything that can be seen then.
    """

    def __init__(
        self,
        *,
        source: SqlSource,
        sink: Sink | Callable[[list[Any]], object],
        transform: Callable[[Any], Any] | Stage | None = None,
        chunk_size: int | str = 10_000,
        **kwargs: Any,
    ) -> None:
        if not isinstance(source, SqlSource):
            raise PlanError("source", source, 'give a SqlSource("table", conn_id=..., key=...)')
        super().__init__(source=source, stages=_transforming(transform), sink=sink, chunk_size=chunk_size, **kwargs)


class ParallelMapOperator(ParallelPipelineOperator):
    """Items through one function into a sink: the whole of most jobs.

    ::

        ParallelMapOperator(
            task_id="fetch_prices",
            items=list_urls.output,
            function=fetch_price,
            workers=16,
            sink=SinkTable("prices", conn_id="warehouse"),
        )

    :param items: as ``source`` of :class:`ParallelPipelineOperator`. (templated, as ``source``)
    :param function: takes one item (with ``batch_size`` a list) and returns a row, ``DROP``, or yields any number.
    :param sink: where the rows go. (templated)
    :param workers: as those of :class:`Stage`, like the following ones. (templated)
    :param kind: ``"thread"``, ``"process"``, ``"async"`` or ``"inline"``.
    :param batch_size: items per call. (templated)
    :param retry: how often a failed call is made again.
    :param item_timeout: seconds one call may take. (templated)
    :param kwargs: everything else that :class:`ParallelPipelineOperator` takes but ``source`` and ``stages``.
    :raises PlanError: when the DAG is parsed, for anything that can be seen then.
    """

    def __init__(
        self,
        *,
        items: Any,
        function: Callable[..., Any],
        sink: Sink | Callable[[list[Any]], object],
        workers: Workers | Template = "auto",
        kind: Kind = "thread",
        batch_size: int | Template | None = None,
        retry: Retry | None = None,
        item_timeout: float | Template | None = None,
        **kwargs: Any,
    ) -> None:
        stage = Stage(
            function,
            workers=workers,
            kind=kind,
            batch_size=batch_size,
            retry=Retry(1) if retry is None else retry,
            timeout=item_timeout,
        )
        super().__init__(source=items, stages=[stage], sink=sink, **kwargs)


def _checked_csv_options(options: Mapping[str, Any]) -> dict[str, Any]:
    try:
        csv_reader((), options)
    except (TypeError, ValueError, AttributeError) as error:
        raise PlanError("csv_options", options, f"give what csv.DictReader takes ({error})") from None
    return dict(options)


def _transforming(transform: Any) -> list[Stage]:
    if transform is None:
        return []
    return [transform if isinstance(transform, Stage) else Stage(transform)]
