# SPDX-License-Identifier: Apache-2.0
"""How the task process and its worker processes exchange messages: frames, shared memory, requests."""
