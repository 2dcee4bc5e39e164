"""Rows of a table, read in ranges of a unique key."""
