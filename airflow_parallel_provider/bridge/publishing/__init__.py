# SPDX-License-Identifier: Apache-2.0
"""What a run publishes: live metrics in XCom, metrics and spans for monitoring, lineage."""
