"""Files as a sink, and files of dead letters."""
