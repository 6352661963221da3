"""Data that is at hand without a download."""
