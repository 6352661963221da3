"""A NIR graph drawn, and one of its neurons run."""
