"""Networks of other frameworks and of NIR files, as modules of ours that run fused, and as NIR again.

Nothing here imports h5py, nir or jax before it is used.
"""

from tfexplore.exchange.exporting import to_nir
from tfexplore.exchange.file import read, write
from tfexplore.exchange.graph import Graph, Node
from tfexplore.exchange.importing import from_nir

__all__ = ["Graph", "Node", "from_nir", "read", "to_nir", "write"]
