"""One backend per database."""
