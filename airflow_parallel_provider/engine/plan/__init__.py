"""What an author declares, checked at construction."""
