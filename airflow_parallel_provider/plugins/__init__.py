# SPDX-License-Identifier: Apache-2.0
"""The provider's part of Airflow's web interface."""
