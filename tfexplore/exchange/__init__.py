"""Networks of other frameworks and of NIR files, as modules of ours that run fused; and the way there."""

from tfexplore.exchange.spikingjelly import from_spikingjelly
