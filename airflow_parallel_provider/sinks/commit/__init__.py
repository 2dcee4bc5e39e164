"""One chunk, committed exactly once."""
