"""Which neurons' gradient through time matters: the cosine between the full gradient and one that is cut in some layers."""
