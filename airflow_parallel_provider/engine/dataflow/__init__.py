# SPDX-License-Identifier: Apache-2.0
"""How items move through a run: chunks, bundles and channels, from the source reader to the sink writer."""
