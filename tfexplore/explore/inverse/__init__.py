"""A network of levels, played forward, and backwards by the inverse: how far back is it exact?"""
