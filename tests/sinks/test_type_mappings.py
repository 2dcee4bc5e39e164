"""The table of types in the docs says what the databases say."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.type_mappings import TARGETS, TYPES, copied, database_of, rows_of

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

PAGE = Path(__file__).parents[2] / "docs" / "sources" / "types.md"
WRITE = "PARALLEL_TESTS_WRITE_TYPES"
"""Set, it has the test write the page."""


@pytest.mark.parametrize("source", TYPES)
def test_types_of_new_columns(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for name in TARGETS:
        for at in range(2):
            (tmp_path / name / f"{at}").mkdir(parents=True)
        with ExitStack() as stack:
            databases = [database_of(each, tmp_path / name / f"{at}") for at, each in enumerate((source, name))]
            for each in databases:
                stack.callback(each.drop)
            found[name] = copied(databases[0], databases[1], monkeypatch)

    text = PAGE.read_text(encoding="utf-8")
    block = re.compile(rf"(<!-- types: {source} -->\n\|.*\n\|.*\n)((?:\|.*\n)*)")
    rows = "\n".join(rows_of(source, found)) + "\n"
    if os.environ.get(WRITE):
        PAGE.write_text(block.sub(lambda old: old[1] + rows, text), encoding="utf-8")
        return
    match = block.search(text)
    assert match is not None
    assert match[2] == rows, f"write the page anew: {WRITE}=1"
