# SPDX-License-Identifier: Apache-2.0
"""Links on the page of a task: to the table its rows go to, and to the table of its dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink

from airflow_parallel_provider.bridge.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping


def table_url(template: str, place: Mapping[str, str]) -> str:
    """The address of a table; empty where there is no template, or where the template has an unknown name."""
    try:
        return template.format_map({name: quote(value, safe="") for name, value in place.items()})
    except (KeyError, IndexError, ValueError):
        return ""


class _TableLink(BaseOperatorLink):
    """Computed in the task when it ends; the template is the deployment's ``[parallel_pipeline] table_url``."""

    field = "table"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002 - as Airflow calls it
        """The address; empty where there is none."""
        sink = getattr(operator, "sink", None)
        table = getattr(sink, self.field, None)
        if not isinstance(table, str):
            return ""
        place = {"conn_id": sink.conn_id, "schema": getattr(sink, "schema", None) or "", "table": table}  # type: ignore[union-attr]
        place["table"] = table.replace("{table}", sink.table)  # type: ignore[union-attr]
        return table_url(Settings.read().table_url, place)


class SinkTableLink(_TableLink):
    """The table with the rows."""

    name = "Sink table"
    field = "table"


class DeadLettersLink(_TableLink):
    """The table with the items that could not be processed."""

    name = "Dead letters"
    field = "dead_letters"
