"""The same training step by step and fused, from several seeds: do both learn the same?"""
