# SPDX-License-Identifier: Apache-2.0
"""What an author declares of a table, checked when the DAG file is parsed. Cheap to import."""
