"""The event-driven explorer: at which firing rate do events cost less than a matrix product?"""

from __future__ import annotations

from tfexplore.explore.base.controls import Choice, Scale
from tfexplore.explore.base.explorer import Explorer
from tfexplore.explore.base.sheet import Sheet
from tfexplore.explore.event_driven import figure
from tfexplore.explore.event_driven.rates import COUNTED, EventCosts, look

ROWS, WIDTHS = (1, 8, 64, 512, 4096), (128, 512, 2048, 8192)


class EventDriven(Explorer):
    """A layer of weights behind spikes, as a matrix product and spike by spike: what each costs, over the firing rate.

    The costs are counted (see `tfexplore.measure.event_driven`), the firing rates are those of the course's network, trained on
    the digits for some three epochs. The energies are published ones for 45 nm, so read ratios.

    Args:
        counted: what is compared: "operations", "words from far" or "energy, 45 nm".
        rows: time steps times samples that share a fetched weight: 1, 8, 64, 512 or 4096.
        width: neurons before and behind the weight: 128 (the trained network's own), 512, 2048 or 8192.

    Controls: counted, rows, width.

    Result: `tfexplore.explore.event_driven.rates.EventCosts`, with `crossing`, `ratio` and the network, `trained`.

    Raises:
        ValueError: if an argument is none of those allowed.

    Example:
        >>> from tfexplore import explore
        >>> explore.event_driven("operations").result.crossing("event-driven, weights near")
        2.0
    """

    caption = (
        "Cost of one weight at one time step of one sample over the firing rate, on logarithmic axes. Diamonds: the layers of "
        "the trained network. Dotted: the rate at which an event-driven way costs as much as the dense one. Energies: Horowitz, "
        "ISSCC 2014, 45 nm; without neurons, the transport of spikes, instructions and leakage."
    )

    counted = Choice("compared", tuple(COUNTED), help="what is counted")
    rows = Scale("T times batch", {rows: f"{rows:,}" for rows in ROWS}, help="rows that share a fetched weight")
    width = Scale("neurons per layer", {width: f"{width:,}" for width in WIDTHS})

    def __init__(self, counted: str = "energy, 45 nm", rows: int = 512, width: int = 128) -> None:
        super().__init__(counted=counted, rows=rows, width=width)

    def look(self) -> EventCosts:
        return look(self.counted, self.rows, self.width)

    def sheet(self) -> Sheet:
        return figure.sheet(self.result)
