"""One neuron: a current goes in, the potential charges, fires and resets; and its firing rate at constant currents."""
