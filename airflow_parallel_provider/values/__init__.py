"""One value: kinds and column types, conversions, typed JSON, and the items of the provider's own sources."""
