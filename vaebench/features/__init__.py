"""Feature networks and the distances between feature sets that metrics and suites share."""
