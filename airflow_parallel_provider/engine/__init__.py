# SPDX-License-Identifier: Apache-2.0
"""The staged engine: pure Python, no Airflow, no database. README.md in this folder shows the way of the data."""
