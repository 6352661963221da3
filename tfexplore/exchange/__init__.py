"""Networks of other frameworks and of NIR files, as modules of ours that run fused, and as NIR again.

Nothing here imports h5py, nir, jax or another framework before it is used.
"""

from tfexplore.exchange.comparison import Comparison, compare
from tfexplore.exchange.conventions import LIBRARIES, convention
from tfexplore.exchange.exporting import to_nir
from tfexplore.exchange.file import read, write
from tfexplore.exchange.graph import Graph, Node
from tfexplore.exchange.importing import from_nir
from tfexplore.exchange.norse import from_norse
from tfexplore.exchange.sinabs import from_sinabs
from tfexplore.exchange.snntorch import from_snntorch
from tfexplore.exchange.spikingjelly import from_spikingjelly
from tfexplore.exchange.walk import Conversion

__all__ = [
    "LIBRARIES", "Comparison", "Conversion", "Graph", "Node", "compare", "convention", "from_nir", "from_norse",
    "from_sinabs", "from_snntorch", "from_spikingjelly", "read", "to_nir", "write",
]  # fmt: skip
