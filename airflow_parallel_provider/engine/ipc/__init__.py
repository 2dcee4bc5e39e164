"""How the task process and its worker processes exchange messages: frames, shared memory, requests."""
