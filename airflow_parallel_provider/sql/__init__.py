"""One SQL database: connection, DDL, errors, and one backend per product."""
