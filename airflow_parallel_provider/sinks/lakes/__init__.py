# SPDX-License-Identifier: Apache-2.0
"""Delta and Iceberg tables: each chunk a Parquet part that no reader sees, and one publication of all at the end."""
