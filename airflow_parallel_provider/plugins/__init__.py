"""The provider's part of Airflow's web interface."""
