"""The worker processes in which the efficiency suite measures."""
