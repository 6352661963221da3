"""Spikes as events, or as a matrix: what a layer of weights costs, over the firing rate."""
