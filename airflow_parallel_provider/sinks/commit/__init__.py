# SPDX-License-Identifier: Apache-2.0
"""One chunk, committed exactly once."""
