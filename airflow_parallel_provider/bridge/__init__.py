"""The only code that talks to the running Airflow task, on the task's main thread only."""
