# SPDX-License-Identifier: Apache-2.0
"""One run of a pipeline: the coordinating thread and what it starts, watches and ends."""
