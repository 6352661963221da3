"""The backward pass through time: surrogates, and how far the gradient flows back."""
