# SPDX-License-Identifier: Apache-2.0
"""Libraries that read some formats, and that not everybody has installed."""

from __future__ import annotations

import importlib
from typing import Any

from airflow_parallel_provider.errors import SourceError


def library(module: str, reads: str, extra: str) -> Any:
    """A module of a library.

    :param reads: the format that needs it.
    :param extra: what installs it.
    :raises SourceError: if it is not installed; names the extra.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        name = module.partition(".")[0]
        if (error.name or "").partition(".")[0] != name:
            raise
        raise SourceError(f"to read {reads} needs {name}: pip install 'airflow-parallel-provider[{extra}]'") from None
