# SPDX-License-Identifier: Apache-2.0
"""One value: kinds and column types, conversions, typed JSON, and the items of the provider's own sources."""
