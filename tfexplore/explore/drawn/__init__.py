"""A figure of numbers that are there already: without controls."""
