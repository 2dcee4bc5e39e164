"""The command line: ``python -m airflow_parallel_provider run|loadtest``. Nothing else imports this."""
