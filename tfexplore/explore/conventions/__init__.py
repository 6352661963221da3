"""One neuron, six libraries: what each of them makes of the same numbers."""
