# SPDX-License-Identifier: Apache-2.0
"""Rows of the formats of files: CSV, JSON, Excel, fixed width, Avro, Parquet and ORC."""
