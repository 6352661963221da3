"""A loss on the potential: the weights of one neuron are trained until its potential follows a curve."""
