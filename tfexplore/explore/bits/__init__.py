"""Packing under your hands: spikes, and the bytes that they become."""
