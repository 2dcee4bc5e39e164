# SPDX-License-Identifier: Apache-2.0
"""The control tables: what is written in the transaction of each chunk, next to its rows."""
