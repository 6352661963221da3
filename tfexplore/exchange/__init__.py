"""Networks of other frameworks and of NIR files, as modules of ours that run fused; and the way there."""

from tfexplore.exchange.compare import Comparison, compare
from tfexplore.exchange.conventions import LIBRARIES, convention
from tfexplore.exchange.norse import from_norse
from tfexplore.exchange.sinabs import from_sinabs
from tfexplore.exchange.snntorch import from_snntorch
from tfexplore.exchange.spikingjelly import from_spikingjelly
from tfexplore.exchange.walk import Conversion

__all__ = [
    "LIBRARIES", "Comparison", "Conversion", "compare", "convention", "from_norse", "from_sinabs", "from_snntorch",
    "from_spikingjelly",
]  # fmt: skip
