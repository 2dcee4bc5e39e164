# SPDX-License-Identifier: Apache-2.0
"""The rows of a sheet of an Excel workbook (.xlsx, .xlsm), one after the other."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from datetime import time as clock
from typing import Any

from airflow_parallel_provider.engine.interfaces.failed_part import FailedPart
from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.sources.files.formats.csv.csv_options import CsvOptions
from airflow_parallel_provider.sources.files.formats.libraries import library
from airflow_parallel_provider.values import typed_json
from airflow_parallel_provider.values.items import SourceFile, SourceLine

_SHARED = ("header", "fieldnames", "skiprows", "na_values", "formats", "filename", "line_number")
"""Options that mean what they mean for CSV."""
_FORMULA = re.compile(rb"<(?:\w{1,16}:)?f[ />]")
_LONGEST = 4 << 20
"""Characters of a row in a dead letter."""
_NOT_CALCULATED = "a formula that no program has calculated: open the file in Excel or LibreOffice and save it"


@dataclass(frozen=True, slots=True)
class ExcelOptions:
    """The options of Excel, checked."""

    sheet_name: str | int | None
    shared: CsvOptions

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> ExcelOptions:
        """The options of what an author gave.

        :raises TypeError: for what is no option; also ValueError.
        """
        unknown = next((name for name in given if name not in (*_SHARED, "sheet_name")), None)
        if unknown is not None:
            raise TypeError(f"there is no option {unknown!r}")
        sheet = given.get("sheet_name")
        if sheet is not None and (isinstance(sheet, bool) or not isinstance(sheet, (str, int)) or sheet in ("", -1)):
            raise TypeError("sheet_name is the name of a sheet, or its number, from 0")
        return cls(sheet, CsvOptions.of({name: given[name] for name in _SHARED if name in given}))


@dataclass(frozen=True, slots=True)
class _Error:
    """What stands in a cell that has no value."""

    code: str


def excel_rows(file: SourceFile, options: ExcelOptions) -> Iterator[dict[Any, Any] | FailedPart]:
    """Yield the rows of a sheet, and a failed part for each row with a cell that has an error in place of a value.

    Texts, numbers and truth values are as they are stored, dates and times as their cell's format says; of a formula
    its last result. Rows without any value are left out.

    :raises SourceError: if it is no workbook, has no such sheet, or its header would lose values. Names the row.
    """
    openpyxl = library("openpyxl", "Excel", "excel")
    with file.open("rb") as raw:
        book = _opened(openpyxl, raw, values=True)
        with closing(book):
            sheet = _sheet(book, options.sheet_name)
            formulas: Iterator[Sequence[Any]] | None = None
            if _has_formulas(raw, sheet):
                other = _opened(openpyxl, raw, values=False)
                formulas = _cells(other[sheet.title])
            yield from _Rows(f"{file.path}, sheet {sheet.title!r}", options.shared).of(_cells(sheet), formulas)


def rows_of_line(item: SourceLine, options: ExcelOptions) -> Iterator[dict[Any, Any] | FailedPart]:
    """The row that a dead letter holds."""
    found = typed_json.loads(item.text)
    values = [_Error(each["error"]) if isinstance(each, dict) else each for each in found]
    rows = _Rows(item.path, options.shared)
    rows.use(list(item.columns or ()))
    yield rows.row(item.line, values)


def _opened(openpyxl: Any, raw: Any, *, values: bool) -> Any:
    raw.seek(0)
    try:
        return openpyxl.load_workbook(raw, read_only=True, data_only=values)
    except zipfile.BadZipFile as error:
        cure = "it is no .xlsx file, or is cut off or encrypted: save it as an Excel workbook (.xlsx)"
        raise SourceError(f"{cure} ({error})") from None


def _sheet(book: Any, wanted: str | int | None) -> Any:
    sheets = list(book.worksheets)
    names = ", ".join(repr(sheet.title) for sheet in sheets[:20])
    if isinstance(wanted, int):
        if wanted >= len(sheets):
            raise SourceError(f"there is no sheet number {wanted}: there are {names}")
        return sheets[wanted]
    if wanted is not None:
        found = next((sheet for sheet in sheets if sheet.title == wanted), None)
        if found is None:
            raise SourceError(f"there is no sheet {wanted!r}: there are {names}")
        return found
    visible = [sheet for sheet in sheets if sheet.sheet_state == "visible"]
    if len(visible) != 1:
        raise SourceError(f"it has the sheets {names}: say which, excel_options={{'sheet_name': {sheets[0].title!r}}}")
    return visible[0]


def _has_formulas(raw: Any, sheet: Any) -> bool:
    """Whether a sheet has any: only then it is read a second time beside the first."""
    raw.seek(0)
    with zipfile.ZipFile(raw) as archive, archive.open(sheet._worksheet_path) as part:
        before = b""
        while piece := part.read(1 << 20):
            if _FORMULA.search(before + piece):
                return True
            before = piece[-20:]
    return False


def _cells(sheet: Any) -> Iterator[Sequence[Any]]:
    sheet.reset_dimensions()  # what a program has written there may be wrong, and cells beyond it would be lost
    return iter(sheet.iter_rows())


class _Rows:
    """Makes rows of cells."""

    def __init__(self, shown: str, options: CsvOptions) -> None:
        self._shown = shown
        self._options = options
        self._names: list[Any] = []
        self._finishers: list[Any] = []
        self._formats: dict[str, str | None] = {}

    def of(self, cells: Iterator[Sequence[Any]], formulas: Iterator[Sequence[Any]] | None) -> Iterator[Any]:
        """The rows of a sheet."""
        options, number = self._options, 0
        if options.fieldnames:
            self.use(list(options.fieldnames))
        waits_for_header = options.header
        try:
            for number, row in enumerate(cells, 1):
                values = self._values(row, None if formulas is None else next(formulas, ()))
                if number <= options.skiprows or all(value is None for value in values):
                    continue
                if waits_for_header:
                    waits_for_header = False
                    self._use_header(number, values)
                    continue
                if not self._names:
                    self.use([f"column{at}" for at in range(len(values))])
                yield self.row(number, values)
        except (GeneratorExit, SourceError):
            raise
        except Exception as error:
            raise SourceError(f"{self._shown}, row {number + 1}: {type(error).__name__}: {error}") from error

    def _use_header(self, number: int, values: list[Any]) -> None:
        if self._options.fieldnames:
            return
        failed = next((value for value in values if isinstance(value, _Error)), None)
        if failed is not None:
            raise SourceError(f"{self._shown}, row {number}: the header has {failed.code}")
        names = ["" if value is None else str(value) for value in values]
        repeated = next((name for at, name in enumerate(names) if name.strip() and name in names[:at]), None)
        if repeated is not None:
            cure = "rename one, or give excel_options={'header': True, 'fieldnames': [...]}"
            raise SourceError(f"{self._shown}, row {number}: two columns have the name {repeated!r}: {cure}")
        self.use(names)

    def use(self, names: list[Any]) -> None:
        """The names of the columns are known.

        :raises SourceError: if an option names a column that is not there, or one that is there as a new one.
        """
        options = self._options
        try:
            self._finishers = options.finishers(names)
        except ValueError as error:
            raise SourceError(f"{self._shown}: {error}") from None
        taken = next((name for name in (options.filename, options.line_number) if name in names), None)
        if taken is not None:
            raise SourceError(f"{self._shown}: the sheet has a column {taken!r} itself: give it another name")
        self._names = names

    def _values(self, row: Sequence[Any], formulas: Sequence[Any] | None) -> list[Any]:
        values = [self._value(cell) for cell in row]
        for at, cell in enumerate(formulas or ()):
            if cell.data_type == "f" and values[at] is None:
                values[at] = _Error(_NOT_CALCULATED)
        return values

    def _value(self, cell: Any) -> Any:
        value, kind = cell.value, cell.data_type
        if kind == "e":
            return _Error(str(value))
        if value is None:
            return "" if kind == "str" else None  # a formula whose result is an empty text
        if kind == "d" and type(value) is datetime and value.time() == clock() and self._is_day(cell.number_format):
            return value.date()
        return value

    def _is_day(self, form: str) -> bool:
        """Whether a format shows days without a time."""
        if form not in self._formats:
            self._formats[form] = library("openpyxl.styles.numbers", "Excel", "excel").is_datetime(form)
        return self._formats[form] == "date"

    def row(self, number: int, values: list[Any]) -> dict[Any, Any] | FailedPart:
        """A row as a dict.

        :param number: of the row in the sheet, from 1.
        :raises SourceError: for a value in a column without a name.
        """
        options, width = self._options, len(self._names)
        if any(value is not None for value in values[width:]):
            return self._failed(number, values, f"{len(values)} cells, but there are {width} columns")
        padded = values[:width] + [None] * (width - len(values))
        row = {name: value for name, value in zip(self._names, padded, strict=True) if self._is_named(name)}
        self._require_names(number, padded)
        for name, value in row.items():
            if isinstance(value, _Error):
                if value.code not in options.nulls_by_column.get(name, options.nulls):
                    return self._failed(number, values, f"column {name!r}: {value.code}")
                row[name] = None
        for name, convert in self._finishers:
            try:
                row[name] = convert(row[name])
            except (ValueError, ArithmeticError) as error:
                return self._failed(number, values, f"column {name!r}: {error}")
        if options.filename is not None:
            row[options.filename] = self._shown.partition(", sheet ")[0]
        if options.line_number is not None:
            row[options.line_number] = number
        return row

    def _require_names(self, number: int, values: Sequence[Any]) -> None:
        for at, (name, value) in enumerate(zip(self._names, values, strict=True), 1):
            if value is not None and not self._is_named(name):
                cure = "name it in the header, or give excel_options={'header': True, 'fieldnames': [...]}"
                raise SourceError(f"{self._shown}, row {number}: a value in column {at}, which has no name: {cure}")

    @staticmethod
    def _is_named(name: Any) -> bool:
        return not isinstance(name, str) or bool(name.strip())

    def _failed(self, number: int, values: Sequence[Any], reason: str) -> FailedPart:
        plain = [{"error": value.code} if isinstance(value, _Error) else value for value in values]
        text, _ = typed_json.dumps(plain, _LONGEST)
        line = SourceLine(self._shown, number, text, "excel", "utf-8", tuple(self._names))
        return FailedPart(line, "ValueError", f"{self._shown}, row {number}: {reason}")
