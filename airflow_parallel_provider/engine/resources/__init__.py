# SPDX-License-Identifier: Apache-2.0
"""What this process may use: CPUs and memory, by affinity and control groups."""
