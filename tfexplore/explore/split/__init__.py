"""Time splitting: the wavefront of a planned training step, and that of real processes above its plan."""
