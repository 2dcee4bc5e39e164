"""One run of a pipeline: the coordinating thread and what it starts, watches and ends."""
