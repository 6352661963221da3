"""Memory policies side by side: what a training step with T time steps keeps, predicted and measured, and what it costs."""
