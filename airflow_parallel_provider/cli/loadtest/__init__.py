# SPDX-License-Identifier: Apache-2.0
"""``loadtest``: runs a pipeline under load and with injected faults, and checks the result."""
