"""The only code that talks to the running Airflow task."""
