# SPDX-License-Identifier: Apache-2.0
"""One load of several runs: its beginning and its end, and its shards on executors of other machines."""
