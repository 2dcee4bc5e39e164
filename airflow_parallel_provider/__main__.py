# SPDX-License-Identifier: Apache-2.0
"""``python -m airflow_parallel_provider``: run or load-test a pipeline in a terminal."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from airflow_parallel_provider.cli.main import main

    sys.exit(main())
