# SPDX-License-Identifier: Apache-2.0
"""CSV: its options, and its rows, one by one or as tables."""
