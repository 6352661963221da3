"""Training a spiking network, live: what it learns, how often its neurons fire, and what one of them does."""
