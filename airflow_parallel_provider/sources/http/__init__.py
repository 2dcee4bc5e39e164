# SPDX-License-Identifier: Apache-2.0
"""Items from an HTTP API, page by page."""
