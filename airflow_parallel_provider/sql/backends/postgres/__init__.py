"""PostgreSQL, with psycopg 3 and psycopg 2."""
