# SPDX-License-Identifier: Apache-2.0
"""FailedPart: a result that could not be made, while the other results of the item could."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class FailedPart:
    """Yielded by a stage's function in place of a result: it becomes a dead letter of its own.

    The other results of the item go on. A file with one bad line is an example.
    """

    item: Any
    """What the dead letter holds. A replay calls the stage's function with it."""
    error: str
    """Type of the error, for example ``ValueError``."""
    message: str
