"""The order in which a network's (layer, time) cells are walked, and what each walk costs."""
