"""``loadtest``: runs a pipeline under load and with injected faults, and checks the result."""
