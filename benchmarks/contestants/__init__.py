"""The contestants, a module each, run in a process of its own by `benchmarks.play`.

Not among them: GeNN, which generates code for whole networks and trains them by EventProp, not by surrogate gradients of a layer;
and cuSNN, a C++ simulator for learning by plasticity, without gradients through time.
"""
