# SPDX-License-Identifier: Apache-2.0
"""The command line: ``python -m airflow_parallel_provider run|loadtest``. No other room imports this one."""
