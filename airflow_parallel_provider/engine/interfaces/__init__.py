# SPDX-License-Identifier: Apache-2.0
"""What a source, a sink and the parts of a run promise each other."""
