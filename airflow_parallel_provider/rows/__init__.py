# SPDX-License-Identifier: Apache-2.0
"""Rows before a database sees them: blocks, Arrow tables, data frames, type inference, conversion, rejected rows."""
