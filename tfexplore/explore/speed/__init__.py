"""Speed curves: the same two layers step by step, layer by layer and fused, while T, N or the dtype grows."""
