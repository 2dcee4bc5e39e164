# SPDX-License-Identifier: Apache-2.0
"""What a running pipeline shows: snapshots, history, forecast and summary as plain JSON."""
