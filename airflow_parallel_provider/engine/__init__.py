"""The staged engine: pure Python, no Airflow, no database. See README.md beside this file for the way of the data."""
