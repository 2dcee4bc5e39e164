"""What a run publishes: live metrics in XCom, metrics and spans for monitoring, lineage."""
