"""Rows before a database sees them: blocks, Arrow tables, data frames, type inference, conversion, rejected rows."""
