# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL, with psycopg 3 and psycopg 2."""
