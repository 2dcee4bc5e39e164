# SPDX-License-Identifier: Apache-2.0
"""Workers: the threads in the task process that serve a stage, by calling its function or through a worker process."""
