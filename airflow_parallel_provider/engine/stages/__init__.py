# SPDX-License-Identifier: Apache-2.0
"""One stage of a running pipeline: its channel, its calls and their failures, its number of workers."""
