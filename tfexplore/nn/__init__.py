"""PyTorch modules and operators: layers, wrappers, state carried and traces recorded, schedules."""
