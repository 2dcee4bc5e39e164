"""Items from files of any storage that Airflow knows."""
