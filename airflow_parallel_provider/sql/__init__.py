# SPDX-License-Identifier: Apache-2.0
"""A connection to an SQL database: opening it, creating tables, its errors, and one backend per database."""
