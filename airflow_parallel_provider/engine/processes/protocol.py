# SPDX-License-Identifier: Apache-2.0
"""What the task process and the fork server say to each other over the control socket."""

from __future__ import annotations

import mmap
import struct
from typing import Final

REQUEST: Final = struct.Struct("<Bxxxiii")
"""Operation; stage number or process id; to start a worker: its index, and how many there are."""

RESPONSE: Final = struct.Struct("<iidQ")  # process id or -1, wait status, CPU seconds, peak of resident memory in bytes

SPAWN, REAP, KILL = range(1, 4)

PAGE_BYTES: Final = mmap.PAGESIZE

importing_stage: str | None = None
"""In a fork server: the stage whose function is being imported. A module that runs a pipeline while it is imported
would start fork servers inside fork servers without end, so :meth:`.client.ForkServerClient.start` refuses it."""
