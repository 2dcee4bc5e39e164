"""What this process may use: CPUs and memory, by affinity and control groups."""
