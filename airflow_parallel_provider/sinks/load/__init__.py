# SPDX-License-Identifier: Apache-2.0
"""One load into a table, from its beginning to its end; and what becomes of old loads."""
