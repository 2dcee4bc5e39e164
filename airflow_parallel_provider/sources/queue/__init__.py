# SPDX-License-Identifier: Apache-2.0
"""Messages of a queue, acknowledged after their commit."""
