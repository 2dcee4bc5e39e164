"""What a source, a sink and the parts of a run promise each other."""
