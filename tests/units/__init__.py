"""One file per module of the engine: small, fast, no Airflow."""
