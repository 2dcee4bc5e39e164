# SPDX-License-Identifier: Apache-2.0
"""The facet of a run in OpenLineage, in its own module: it can be imported only where OpenLineage is installed."""

from __future__ import annotations

from typing import Any

import attr
from airflow.providers.common.compat.openlineage.facet import RunFacet


@attr.define
class ParallelPipelineRunFacet(RunFacet):  # type: ignore[misc]  # OpenLineage's classes have no types here
    """How a run ended, what happened to its items, and why some failed: causes, never the items themselves."""

    state: str
    counts: dict[str, int]
    failures: list[dict[str, Any]]
