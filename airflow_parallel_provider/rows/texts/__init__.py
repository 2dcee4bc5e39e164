# SPDX-License-Identifier: Apache-2.0
"""Values that are written as texts, and what a column makes of them."""
