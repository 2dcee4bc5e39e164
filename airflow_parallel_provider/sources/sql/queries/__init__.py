# SPDX-License-Identifier: Apache-2.0
"""What ``SqlSource`` reads from: a table, a view, or the author's own SELECT."""
