"""Where the time of one training step goes, before and after the neurons are fused."""
