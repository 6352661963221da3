"""A prediction before an experiment, and what was measured beside it."""
