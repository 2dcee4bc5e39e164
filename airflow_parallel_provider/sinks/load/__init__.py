"""One load into a table, from its beginning to its end; and what becomes of old loads."""
