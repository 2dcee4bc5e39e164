# SPDX-License-Identifier: Apache-2.0
"""A DuckDB file belongs to one process at a time: which error says that another process has it, and which process."""

from __future__ import annotations

import re

_REFUSED = "Could not set lock on file"
_HOLDER = re.compile(r"Conflicting lock is held in (.+?\(PID \d+\))")


def lock_holder(error: BaseException) -> str | None:
    """The process that holds the file that could not be opened.

    :return: program and process id as DuckDB gives them, or "another process" where it does not know; None for any
        other error.
    """
    driver = type(error).__module__.partition(".")[0]
    if driver not in ("duckdb", "_duckdb") or _REFUSED not in str(error):
        return None
    found = _HOLDER.search(str(error))
    return found[1] if found else "another process"
