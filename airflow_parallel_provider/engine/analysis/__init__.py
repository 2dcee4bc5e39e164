# SPDX-License-Identifier: Apache-2.0
"""What a report concludes from its numbers: the bottleneck, the serial estimate, a simulation with other workers."""
