"""Real speech, every utterance of another length: a small spiking network that tells speakers apart."""
