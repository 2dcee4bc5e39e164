# SPDX-License-Identifier: Apache-2.0
"""Items from files of any storage that Airflow knows."""
