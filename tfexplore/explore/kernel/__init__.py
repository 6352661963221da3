"""Inside a fused kernel: its source, the words of memory that its threads touch, and their registers."""
