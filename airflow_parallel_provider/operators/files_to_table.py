# SPDX-License-Identifier: Apache-2.0
"""The operator that loads files of any storage into a table."""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, Any, Literal

from airflow_parallel_provider.checks import check_choice, check_text
from airflow_parallel_provider.engine.plan.stage import Stage
from airflow_parallel_provider.errors import PlanError
from airflow_parallel_provider.operators._arguments import ONE_STAGE, refuse_set_arguments, transform_stages
from airflow_parallel_provider.operators.parallel_pipeline import ParallelPipelineOperator
from airflow_parallel_provider.sinks.table import SinkTable
from airflow_parallel_provider.sources.files.as_files import as_files
from airflow_parallel_provider.sources.files.formats.csv.csv_options import CsvOptions
from airflow_parallel_provider.sources.files.formats.excel import ExcelOptions
from airflow_parallel_provider.sources.files.formats.fixed_width import FixedWidthOptions
from airflow_parallel_provider.sources.files.formats.row_readers import FORMATS, read_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_parallel_provider.engine.interfaces.sink import Sink
    from airflow_parallel_provider.engine.plan.stage import Template, Workers
    from airflow_parallel_provider.sources.files.files_source import FilesSource


CHUNK_BYTES = 8 << 20
"""Bytes of the files of one chunk, as they are stored. Four such chunks are in memory, and the rows of a file take up
to ten times its bytes."""

MOST_FILES = 500
"""Most files of one chunk. A commit of 500 small files costs little more than one of a single file."""


class FilesToTableOperator(ParallelPipelineOperator):
    """Load files of any storage into a table, each file's rows exactly once.

    ::

        FilesToTableOperator(
            task_id="load_orders",
            files=FilesSource("s3://raw/orders/{{ ds }}/*.csv.gz", conn_id="aws"),
            sink=SinkTable("orders", conn_id="warehouse", primary_key=["id"]),
            transform=to_types,
        )

    :param files: a path with a pattern, a list of paths, the output of an upstream task that returns one of these, or a
        ``FilesSource`` whose items are files. (templated)
    :param sink: a ``SinkTable``, or any other sink. (templated)
    :param format: ``"csv"``, ``"jsonl"``, ``"json"``, ``"parquet"``, ``"excel"``, ``"fixed_width"``, ``"avro"``,
        ``"orc"``, or ``"auto"``: by each file's name, without ``.gz`` and the like. Rows of CSV and fixed width are
        dicts of texts, those of Excel and Avro dicts of values, those of Parquet and ORC Arrow tables.
    :param transform: a function of one row that returns a row or ``DROP``, or yields any number of rows; a ``Stage``
        where it needs more than threads. None: rows stay as they are.
    :param encoding: of text files.
    :param csv_options: options of ``csv.DictReader`` (``delimiter``, ``quotechar``, ``fieldnames``, ...), and

        * ``skiprows``: lines before the header;
        * ``header``: whether there is one; True with ``fieldnames``: these replace it; False without: the columns are
          ``column0``, ``column1``, ...;
        * ``comment``: a character; lines that begin with it are no records;
        * ``na_values``: texts that stand for NULL, as a list for all columns, or a dict of such lists by column;
        * ``formats``: how a column's texts are read, by column: a format of ``strptime`` gives dates and times,
          ``{"decimal": ",", "thousands": "."}`` gives decimals, a function what it returns;
        * ``filename``, ``line_number``: names of columns for the file and the line that a row is from;
        * ``field_size_limit``: characters that a field may have in any case, 16,777,216 unless given; the limit is that
          of the module ``csv``, which is raised for the whole process.
    :param records: of JSON: where the records of a document, or of a line, are: names with dots (``"data.items"``).
        None: a document is a list of records, or one record.
    :param flatten: of JSON and Avro: what joins the names of objects within objects: with ``"__"`` the column of
        ``{"a": {"b": 1}}`` is ``a__b``. Lists stay as they are. None: objects are values, which a sink writes as JSON.
    :param hive_partitioning: whether folders such as ``day=2026-11-01/`` are columns, whose values are texts.
    :param columns: of Parquet and ORC: the columns to read; None: all.
    :param filters: of Parquet: which rows to read, as pyarrow takes them: ``[("price", ">", 10)]``. Row groups whose
        statistics exclude them are not read.
    :param excel_options: of Excel: ``sheet_name``, the name of a sheet or its number, from 0, which only a workbook of
        several needs; ``skiprows``, ``header``, ``fieldnames``, ``na_values`` (also codes such as ``#N/A``),
        ``formats``, ``filename`` and ``line_number`` as for CSV.
    :param fixed_width: of fixed width: ``columns``, the width in characters of each column in their order
        (``{"id": 8, "name": 20}``), or the places of those that are read, from 0 (``{"name": (8, 28)}``); ``strip``:
        whether spaces around values are left out, True unless given; ``pad``: whether a line may end earlier, False
        unless given; ``skiprows``, ``comment``, ``na_values``, ``formats``, ``filename`` and ``line_number`` as for
        CSV.
    :param workers: files that are read at the same time. (templated)
    :param chunk_size: files per transaction. ``"auto"``: as many neighbors as have 8 MiB together as they are stored
        (``FilesSource(chunk_bytes=...)``: as many as you say), at most 500, or a quarter of ``max_in_flight``; a
        larger file has a transaction of its own. (templated)
    :param kwargs: all other arguments of :class:`ParallelPipelineOperator` but ``source`` and ``stages``.
    :raises PlanError: when the DAG is parsed, for every error that is visible then.

    Known limitation: the rows of a transaction's files are in memory at once. For single files of many gigabytes use
    ``FilesSource(..., items="line")``, ``items="record"`` or ``items="row_group"`` as the source of a
    :class:`ParallelPipelineOperator`.
    """

    def __init__(
        self,
        *,
        files: str | Sequence[str] | FilesSource,
        sink: Sink | Callable[[list[Any]], object],
        format: Literal[  # noqa: A002 - the usual name
            "auto", "csv", "jsonl", "json", "parquet", "excel", "fixed_width", "avro", "orc"
        ] = "auto",
        transform: Callable[[Any], Any] | Stage | None = None,
        encoding: str = "utf-8",
        csv_options: Mapping[str, Any] | None = None,
        records: str | None = None,
        flatten: str | None = None,
        hive_partitioning: bool = False,
        columns: Sequence[str] | None = None,
        filters: Any = None,
        excel_options: Mapping[str, Any] | None = None,
        fixed_width: Mapping[str, Any] | None = None,
        workers: Workers | Template = "auto",
        chunk_size: int | str = "auto",
        **kwargs: Any,
    ) -> None:
        refuse_set_arguments(
            kwargs,
            {
                "stages": ONE_STAGE,
                "source": "give the files as files=",
            },
        )
        source = as_files(files)
        if source.items != "file":
            raise PlanError("files", source, 'leave out items= (or write items="file"): this operator reads the files')
        check_choice("format", format, FORMATS)
        if not isinstance(hive_partitioning, bool):
            raise PlanError("hive_partitioning", hive_partitioning, "give True or False")
        options = {"csv_options": csv_options, "excel_options": excel_options, "fixed_width": fixed_width}
        read = functools.partial(
            read_rows,
            format=format,
            encoding=encoding,
            compression=source.compression,
            members=source.members,
            largest_text=source.largest_text,
            **_checked_options(format, options),
            **_checked_shape(format, records, flatten, columns, filters),
            hive_partitioning=hive_partitioning,
            for_table=transform is None and isinstance(sink, SinkTable),
        )
        stages = [Stage(read, name="read", workers=workers), *transform_stages(transform)]
        if format in ("auto", "csv", "fixed_width"):
            sink = _parsing_texts(sink)
        if chunk_size == "auto":
            source, chunk_size = _grouped(source), _most_files(kwargs.get("max_in_flight"))
        super().__init__(source=source, stages=stages, sink=sink, chunk_size=chunk_size, **kwargs)


def _parsing_texts(sink: Any) -> Any:
    """A sink that reads numbers in texts, unless its author says otherwise: CSV has nothing but texts."""
    if not isinstance(sink, SinkTable) or sink.spec.parse_texts is not None:
        return sink
    return sink.with_parsed_texts()


_OPTIONS: Mapping[str, tuple[Callable[[Mapping[str, Any]], object], str]] = {
    "csv_options": (CsvOptions.of, "csv"),
    "excel_options": (ExcelOptions.of, "excel"),
    "fixed_width": (FixedWidthOptions.of, "fixed_width"),
}
"""What checks the options of a format, and its name."""

_FORMATS_WITH = {
    "records": ("auto", "json", "jsonl"),
    "flatten": ("auto", "json", "jsonl", "avro"),
    "columns": ("auto", "parquet", "orc"),
    "filters": ("auto", "parquet"),
}
"""Formats that have an option."""


def _grouped(source: FilesSource) -> FilesSource:
    """A source whose chunks are groups of neighboring files."""
    if source.chunk_bytes is not None:
        return source
    source = copy.copy(source)  # an author may use it twice
    source.chunk_bytes = CHUNK_BYTES
    return source


def _most_files(max_in_flight: Any) -> int:
    """Most files of one chunk, so that four chunks may be in flight."""
    return min(MOST_FILES, max(1, max_in_flight // 4)) if type(max_in_flight) is int else MOST_FILES


def _checked_shape(form: str, records: Any, flatten: Any, columns: Any, filters: Any) -> dict[str, Any]:
    """The options that only some formats have.

    :raises PlanError: for one of another format, or of the wrong type.
    """
    check_text("records", records, optional=True)
    check_text("flatten", flatten, optional=True)
    given = {"records": records, "flatten": flatten, "columns": columns, "filters": filters}
    for name, value in given.items():
        if value is not None and form not in _FORMATS_WITH[name]:
            raise PlanError(name, value, f"format={form!r} has no such option; leave it out")
    if columns is not None and (
        isinstance(columns, str) or not columns or not all(isinstance(c, str) for c in columns)
    ):
        raise PlanError("columns", columns, "give a list of names, or leave it out for all columns")
    if filters is not None and (isinstance(filters, str) or filters == []):
        raise PlanError("filters", filters, "give a list of conditions, e.g. [('price', '>', 10)]")
    return {name: value for name, value in given.items() if value is not None}


def _checked_options(form: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The dicts of options of single formats.

    :raises PlanError: for one of another format, and for a wrong option.
    """
    if form == "fixed_width" and given["fixed_width"] is None:
        cure = "say where the columns are: fixed_width={'columns': {'id': 8, 'name': 20}}"
        raise PlanError("fixed_width", None, cure)
    for name, value in given.items():
        if value is None:
            continue
        checked, meant = _OPTIONS[name]
        if form not in ("auto", meant) or (name == "fixed_width" and form == "auto"):  # no name of a file says that
            cure = f"format={form!r} has no such option; leave it out, or give format={meant!r}"
            raise PlanError(name, value, cure)
        try:
            checked(value)
        except (TypeError, ValueError, AttributeError) as error:
            what = "options of csv.DictReader, or " if name == "csv_options" else ""
            raise PlanError(name, value, f"give {what}those of the docs ({error})") from None
    return {name: dict(value) for name, value in given.items() if value is not None}
