"""The map of what is parallel in time: over T and N, which way through the time steps is the fastest, and at what cost."""
