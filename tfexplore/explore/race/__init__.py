"""A race: the same two layers step by step, layer by layer and fused."""
