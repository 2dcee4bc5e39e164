"""The operator that loads files of any storage into a table."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Literal

from airflow_parallel_provider.checks import check_choice
from airflow_parallel_provider.engine.plan.stage import Stage
from airflow_parallel_provider.errors import PlanError
from airflow_parallel_provider.operators._arguments import transform_stages
from airflow_parallel_provider.operators.parallel_pipeline import ParallelPipelineOperator
from airflow_parallel_provider.sources.files.csv_rows import check_csv_options
from airflow_parallel_provider.sources.files.files_source import FilesSource, as_files
from airflow_parallel_provider.sources.files.row_readers import FORMATS, read_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_parallel_provider.engine.interfaces.sink import Sink
    from airflow_parallel_provider.engine.plan.stage import Template, Workers


class FilesToTableOperator(ParallelPipelineOperator):
    """Load files of any storage into a table, each file's rows exactly once.

    ::

        FilesToTableOperator(
            task_id="load_orders",
            files=FilesSource("s3://raw/orders/{{ ds }}/*.csv.gz", conn_id="aws"),
            sink=SinkTable("orders", conn_id="warehouse", primary_key=["id"]),
            transform=to_types,
        )

    :param files: a path with a pattern, or a ``FilesSource`` whose items are files. (templated)
    :param sink: a ``SinkTable``, or any other sink. (templated)
    :param format: ``"csv"``, ``"jsonl"``, ``"json"``, ``"parquet"``, or ``"auto"``: by each file's name, without
        ``.gz`` and the like. Rows of CSV are dicts of texts; those of Parquet are Arrow tables.
    :param transform: a function of one row that returns a row or ``DROP``, or yields any number of rows; a ``Stage``
        where it needs more than threads. None: rows stay as they are.
    :param encoding: of text files.
    :param csv_options: options of ``csv.DictReader``.
    :param workers: files that are read at the same time. (templated)
    :param chunk_size: files per transaction. (templated)
    :param kwargs: all other arguments of :class:`ParallelPipelineOperator` but ``source`` and ``stages``.
    :raises PlanError: when the DAG is parsed, for every error that is visible then.

    Known limitation: the rows of ``chunk_size`` files are in memory at once. For single files of many gigabytes use
    ``FilesSource(..., items="line")`` or ``items="row_group"`` as the source of a :class:`ParallelPipelineOperator`.
    """

    def __init__(
        self,
        *,
        files: str | FilesSource,
        sink: Sink | Callable[[list[Any]], object],
        format: Literal["auto", "csv", "jsonl", "json", "parquet"] = "auto",  # noqa: A002 - the usual name
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
        read = functools.partial(
            read_rows,
            format=format,
            encoding=encoding,
            csv_options=options,
            compression=source.compression,
            members=source.members,
        )
        stages = [Stage(read, name="read", workers=workers), *transform_stages(transform)]
        super().__init__(source=source, stages=stages, sink=sink, chunk_size=chunk_size, **kwargs)


def _checked_csv_options(options: Mapping[str, Any]) -> dict[str, Any]:
    try:
        check_csv_options(options)
    except (TypeError, ValueError, AttributeError) as error:
        raise PlanError("csv_options", options, f"give options of csv.DictReader ({error})") from None
    return dict(options)
