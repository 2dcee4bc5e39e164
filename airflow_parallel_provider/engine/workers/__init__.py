"""Worker workers: the thread in the task process that serves one worker of a stage, whatever kind the worker is."""
