"""What is parallel in time, played on one neuron: scans, chunks, and guesses that are repeated until nothing changes."""
