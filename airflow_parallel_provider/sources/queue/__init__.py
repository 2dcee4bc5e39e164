"""Messages of a queue, acknowledged after their commit."""
