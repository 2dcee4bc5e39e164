"""The facet of a run in OpenLineage. Importable where OpenLineage is installed; a module of its own because of that."""

from __future__ import annotations

from typing import Any

import attr
from airflow.providers.common.compat.openlineage.facet import RunFacet


@attr.define
class ParallelPipelineRunFacet(RunFacet):  # type: ignore[misc]  # OpenLineage's classes have no types here
    """How a run ended, what became of its items, and why some failed: causes, never the items themselves."""

    state: str
    counts: dict[str, int]
    failures: list[dict[str, Any]]
