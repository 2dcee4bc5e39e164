# SPDX-License-Identifier: Apache-2.0
"""Rows of a table, read in ranges of a unique key."""
