"""The whole training step as one program: what it costs, and when that is paid."""
