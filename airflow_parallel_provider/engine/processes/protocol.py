"""What the task process and the fork server say to each other."""

from __future__ import annotations

import mmap
import struct
from typing import Final

REQUEST: Final = struct.Struct("<Bxxxi")  # operation, stage or process id

RESPONSE: Final = struct.Struct("<iidQ")  # pid or -1, wait status, CPU seconds, peak of resident memory in bytes

SPAWN, REAP, KILL = range(1, 4)

PAGE_BYTES: Final = mmap.PAGESIZE
