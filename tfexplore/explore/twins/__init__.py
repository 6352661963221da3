"""The same training twice: by backpropagation through time, and with the levels walked back."""
