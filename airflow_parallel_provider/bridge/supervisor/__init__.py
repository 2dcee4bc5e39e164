# SPDX-License-Identifier: Apache-2.0
"""Requests to the task's supervisor: from all threads of the task, and from its worker processes."""
