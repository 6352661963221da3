"""Networks of other frameworks and of NIR files, as modules of ours that run fused; and the way there."""

from tfexplore.exchange.snntorch import from_snntorch
from tfexplore.exchange.spikingjelly import from_spikingjelly
