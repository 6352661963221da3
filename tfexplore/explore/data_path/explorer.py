"""The data-path explorer: how many bytes a data set of spikes takes from the disk to the backward pass."""

from __future__ import annotations

from tfexplore.explore.base.controls import Scale, Slider
from tfexplore.explore.base.explorer import Explorer
from tfexplore.explore.base.sheet import Sheet
from tfexplore.explore.data_path import figure
from tfexplore.explore.data_path.stages import Stages, look
from tfexplore.neurons.parameters import checked_count

STEPS = (8, 20, 32, 64, 100, 128)
MOST = 512


class DataPath(Explorer):
    """The bytes of the digits, as spikes, on their way: from the file to what a layer saves for backward.

    Each is counted on the real thing: a file that is written, the tensors of a `PackedDataset` and of its first batch, and what
    autograd saves of the input of a `torch.nn.Linear`, plain and within `BitSaving`.

    Args:
        steps: time steps `T`: 8, 20, 32, 64, 100 or 128.
        batch: samples in a batch, at most 512.

    Controls: steps, batch.

    Result: `tfexplore.explore.data_path.stages.Stages`, with `nbytes` by stage, and whether the gradients are `alike`.

    Raises:
        ValueError: if an argument is none of those allowed.

    Example:
        >>> from tfexplore import explore
        >>> explore.data_path(steps=32).result.ratio("saved for backward by the first layer")
        32.0
    """

    caption = (
        "Each pair of bars is the same spikes, as float32 and as bits. The axis is logarithmic, so that an equal distance is an "
        "equal ratio. Bars that are not 32 times shorter: a file and a data set have labels too, and a byte that is not full is "
        "kept whole."
    )

    steps = Scale("time steps T", {steps: str(steps) for steps in STEPS})
    batch = Slider("batch", 1, MOST, help="samples that are handed out at once")

    def __init__(self, steps: int = 64, batch: int = 128) -> None:
        checked_count("batch", batch, MOST)
        super().__init__(steps=steps, batch=batch)

    def look(self) -> Stages:
        return look(self.steps, self.batch)

    def sheet(self) -> Sheet:
        return figure.sheet(self.result)
