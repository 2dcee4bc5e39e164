"""Items from an HTTP API, page by page."""
